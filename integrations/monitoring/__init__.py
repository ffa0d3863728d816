"""Monitoring of rules and workers: counting calls, figures and charts, notices, and the deletion of old rows."""
