"""The load tool behind `manage.py swarm`: raw WebSockets that attach, count and check, at little cost each.

Read in this order: plan, frames, responses, messages (what goes over the wire), realtime and nchan (the two
protocols), cursor, findings, latency, timings (what is checked and measured), stream, connection, member, crowd,
publishers (the sockets), processes, conductor (the processes), killing, scrape, clock, meter (the server), report,
plot, display.
"""
