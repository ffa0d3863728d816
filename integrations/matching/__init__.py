"""Matching: which rules an event goes to."""
