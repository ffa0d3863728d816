"""The load tool behind `manage.py swarm`: raw WebSockets that attach, count and check, at little cost each.

Packages and modules import only downwards, in this order: run (the whole), arguments, display, conductor (the phases of
a run), processes, endpoint (what it starts), members, publishers (the two kinds of clients), wire (sockets and
protocols), server (what is measured beside), orders (between conductor and processes), results (figures and their
report), plan.
"""
