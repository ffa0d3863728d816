"""One WebSocket connection: the consumer, its session, its rooms and its publishes."""
