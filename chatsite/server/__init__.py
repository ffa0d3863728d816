"""The server of a gateway process: Daphne, with parts of its own where a process holds 20,000 sockets."""
