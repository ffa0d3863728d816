"""Publishing: from what a client sends to a durable message, in batches."""
