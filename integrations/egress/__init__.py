"""Outgoing connections: the only module that opens them, the addresses that it refuses, and calls to AWS."""
