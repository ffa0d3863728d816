"""Rules: making and changing them, and what the log has to do with them."""
