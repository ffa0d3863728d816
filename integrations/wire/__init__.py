"""What goes over the wire to a target and back: events, bodies, signatures, verdicts, callback tokens."""
