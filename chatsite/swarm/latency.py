"""Counts of durations, small enough to send between processes and exact enough to judge. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

STEPS_PER_SECOND = 10_000  # 0.1 ms


class Latency:
    """A histogram in steps of 0.1 ms. `counts` is open so that the hot loop can add without a call."""

    def __init__(self, counts: Counter[int] | None = None) -> None:
        self.counts: Counter[int] = Counter() if counts is None else counts

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[int(seconds * STEPS_PER_SECOND)] += 1

    @classmethod
    def merged(cls, parts: Iterable[Latency]) -> Latency:
        """Return all parts as one."""
        total: Counter[int] = Counter()
        for part in parts:
            total.update(part.counts)
        return cls(total)

    def percentile(self, share: float) -> float | None:
        """Return the milliseconds that this share (0 to 1) of all stays below; None if there is nothing."""
        left = share * self.counts.total()
        for step in sorted(self.counts):
            left -= self.counts[step]
            if left <= 0:
                return (step + 1) * 1000 / STEPS_PER_SECOND
        return None
