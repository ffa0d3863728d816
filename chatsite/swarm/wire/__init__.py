"""The sockets of a swarm: TCP, HTTP and WebSocket by hand, and the two protocols spoken over them."""
