"""Credentials, the operations that they allow, and the guests of the page."""
