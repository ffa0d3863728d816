"""The gateway's server: Daphne, with parts of its own where 20,000 sockets a process need them."""
