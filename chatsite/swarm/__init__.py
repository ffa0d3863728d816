"""The load tool behind `manage.py swarm`: raw WebSockets that attach, count and check, at little cost each.

Read in this order: plan, frames, messages (what goes over the wire), cursor, findings, latency (what is checked),
poller, connection, crowd, publishers (the sockets), conductor (the processes), meter (the server), report.
"""
