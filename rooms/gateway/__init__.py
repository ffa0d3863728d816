"""A gateway: the hubs, tasks and connections of one process that holds WebSockets."""
