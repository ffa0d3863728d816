"""Events of rules after publish: from what happened in a room to deliveries."""
