"""A gateway: what one process that holds WebSockets keeps for all of its connections."""
