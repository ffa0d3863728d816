"""The server under test, seen from outside the protocol: its processes, CPU, memory, counters and clock."""
