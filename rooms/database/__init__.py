"""Access to Postgres: threads with connections, statements in one round trip, limits."""
