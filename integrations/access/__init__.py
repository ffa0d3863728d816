"""Access: API keys, the tokens that they sign, and their revocation."""
