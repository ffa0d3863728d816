"""Counts of durations, small enough to send between processes and exact enough to judge. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

STEPS_PER_SECOND = 10_000  # 0.1 ms
EXACT_BITS = 10  # below 102.4 ms each step counts for itself, above each bucket is 0.2 % wide


def bucket_of(step: int) -> int:
    """Return the bucket of a duration in steps. Longer durations have higher buckets; negative ones count as 0."""
    shift = max(0, step.bit_length() - EXACT_BITS)
    return max(0, step) if not shift else (shift << EXACT_BITS) + (step >> shift) if step > 0 else 0


def end_of(bucket: int) -> int:
    """Return the step at which a bucket ends: all of its durations are shorter."""
    shift = bucket >> EXACT_BITS
    return ((bucket & ((1 << EXACT_BITS) - 1)) + 1) << shift


class Latency:
    """A histogram: steps of 0.1 ms up to 102.4 ms, 0.2 % of the value above."""

    def __init__(self, counts: Counter[int] | None = None) -> None:
        self.counts: Counter[int] = Counter() if counts is None else counts

    def __len__(self) -> int:
        return self.counts.total()

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bucket_of(int(seconds * STEPS_PER_SECOND))] += 1

    def add_steps(self, steps: int, times: int = 1) -> None:
        """Count a duration in steps, as often as it occurred."""
        self.counts[bucket_of(steps)] += times

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
        for bucket in sorted(self.counts):
            left -= self.counts[bucket]
            if left <= 0:
                return end_of(bucket) * 1000 / STEPS_PER_SECOND
        return None
