"""The fan-out of rooms in one process: hubs, the tails of their logs, and the writes to members."""
