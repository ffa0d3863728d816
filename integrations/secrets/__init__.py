"""Secrets at rest: sealing, and the secrets that sign a rule's calls."""
