"""The admin pages of API keys and revocations."""
