"""The wire format between this server and targets: events, bodies, signatures, verdicts, callback tokens."""
