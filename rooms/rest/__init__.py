"""The REST API of rooms, with the addresses and shapes of the public API."""
