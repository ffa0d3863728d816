"""Access to Postgres: threads, statements in one round trip, limits."""
