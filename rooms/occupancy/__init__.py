"""Occupancy: how many connections a room has, over all gateways."""
