"""The difference between the server's clock and this machine's: messages carry the server's time."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable

from chatsite.swarm.server.counters import fetch

ASKED_TIMES = 12

Answer = tuple[float, int, float]  # monotonic seconds before and after, between them the server's milliseconds


def measure_offset(address: tuple[str, int]) -> float | None:
    """Return the server's epoch seconds minus this machine's monotonic ones, by GET /time; None if it has none."""
    answers = []
    for _ in range(ASKED_TIMES):
        before, text = time.monotonic(), fetch(address, "/time")
        try:
            answers.append((before, int(json.loads(text or "")[0]), time.monotonic()))
        except (ValueError, TypeError, LookupError):
            return None
    return offset_of(answers)


def offset_of(answers: Iterable[Answer]) -> float:
    """Return the offset that fits all answers best. Each allows a range: its round trip, and a millisecond. Pure."""
    ranges = [(server / 1000 - after, (server + 1) / 1000 - before) for before, server, after in answers]
    return (max(low for low, _ in ranges) + min(high for _, high in ranges)) / 2
