"""Occupancy: the numbers of connections in rooms, over all gateways."""
