"""Access: credentials, what they allow, and the guests of the page."""
