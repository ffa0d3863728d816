"""The advisory locks that this app takes in Postgres."""
