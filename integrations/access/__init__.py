"""Who may do what: API keys, tokens of every kind, and how they end."""
