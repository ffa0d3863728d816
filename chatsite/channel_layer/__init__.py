"""Broadcasts over Redis or Valkey: one server, several that share the rooms, or a Redis Cluster."""
