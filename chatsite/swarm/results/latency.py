"""Histograms of durations, small enough to send between processes and exact enough to judge. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec

STEPS_PER_SECOND = 10_000  # 0.1 ms
EXACT_BITS = 10  # below 102.4 ms each step counts for itself, above each bucket is 0.2 % wide


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """The percentiles of a histogram in milliseconds; null if nothing was measured."""

    p50: float | None
    p95: float | None
    p99: float | None
    max: float | None

    def __str__(self) -> str:
        found = [f"{name} {value:.1f}" for name, value in msgspec.structs.asdict(self).items() if value is not None]
        return " · ".join(found) + " ms" if found else "not measured"


class Latency:
    """A histogram: steps of 0.1 ms up to 102.4 ms, 0.2 % of the value above."""

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()

    def __len__(self) -> int:
        return self.counts.total()

    def __iadd__(self, other: Latency) -> Latency:
        self.counts.update(other.counts)
        return self

    @classmethod
    def merged(cls, parts: Iterable[Latency]) -> Latency:
        """Return a histogram of everything that the parts counted."""
        whole = cls()
        for part in parts:
            whole += part
        return whole

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self.add_steps(int(seconds * STEPS_PER_SECOND))

    def add_steps(self, steps: int, times: int = 1) -> None:
        """Count a duration in steps, as often as it occurred."""
        self.counts[bucket_of(steps)] += times

    def percentile(self, share: float) -> float | None:
        """Return the milliseconds that this share (0 to 1) of all durations stays below; None if there are none."""
        left = share * self.counts.total()
        for bucket in sorted(self.counts):
            left -= self.counts[bucket]
            if left <= 0:
                return end_of(bucket) * 1000 / STEPS_PER_SECOND
        return None

    def spread(self) -> Spread:
        """Return the percentiles that reports show."""
        p50, p95, p99, highest = map(self.percentile, (0.5, 0.95, 0.99, 1.0))
        return Spread(p50=p50, p95=p95, p99=p99, max=highest)


def bucket_of(step: int) -> int:
    """Return the bucket of a duration in steps. Longer durations have higher buckets; negative ones count as 0."""
    step = max(0, step)
    shift = max(0, step.bit_length() - EXACT_BITS)
    return (shift << EXACT_BITS) + (step >> shift)


def end_of(bucket: int) -> int:
    """Return the step at which a bucket ends: all of its durations are shorter."""
    shift = bucket >> EXACT_BITS
    return ((bucket & ((1 << EXACT_BITS) - 1)) + 1) << shift
