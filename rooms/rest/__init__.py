"""The REST API of rooms, in the public shapes."""
