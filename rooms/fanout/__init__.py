"""The fan-out of rooms in one process: hubs, their memory, and the writes to members."""
