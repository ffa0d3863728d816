"""Verdicts by callback: the use of callback tokens, and its audit."""
