"""Verdicts that come by callback, and the record of every use of a callback token."""
