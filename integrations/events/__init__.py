"""Events for rules after publish: each event of a room becomes deliveries to the rules that receive it."""
