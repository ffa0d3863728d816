"""GET /metrics: figures of this gateway, and of the rules and workers that Postgres knows."""
