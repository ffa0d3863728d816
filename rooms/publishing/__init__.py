"""Publishing: checks the messages of clients, and accepts them in batches."""
