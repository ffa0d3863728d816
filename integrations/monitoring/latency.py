"""Counts durations of calls in buckets, which can be summed over minutes, workers and rules. Pure.

The bounds grow by a quarter (the Renard series R10), so that a quantile is right within an eighth of itself.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Final

_DECADE: Final = (1.0, 1.25, 1.6, 2.0, 2.5, 3.15, 4.0, 5.0, 6.3, 8.0)
# 1 ms to 1000 s, longer than any call may take.
BOUNDS_MS: Final[tuple[float, ...]] = (*(step * 10**decade for decade in range(6) for step in _DECADE), 1_000_000.0)
BUCKETS: Final = len(BOUNDS_MS) + 1  # the last counts all longer durations


def bucket_of(milliseconds: float) -> int:
    """Return the index of the first bucket whose bound is not below `milliseconds`."""
    return bisect_left(BOUNDS_MS, milliseconds)


def add_up(rows: Iterable[Sequence[int]]) -> list[int]:
    """Return the sum of rows of buckets; missing buckets of a shorter row count as 0."""
    total = [0] * BUCKETS
    for row in rows:
        for place, count in enumerate(row[:BUCKETS]):
            total[place] += count
    return total


def quantile(buckets: Sequence[int], share: float) -> float | None:
    """Return the milliseconds within which `share` (0 to 1) of the calls ended; None without calls.

    Within a bucket an even distribution is assumed. Durations beyond the last bound count as that bound.
    """
    calls = sum(buckets)
    if calls == 0:
        return None
    rank = share * calls
    below = 0
    for place, count in enumerate(buckets):
        if count and below + count >= rank:
            if place >= len(BOUNDS_MS):
                break
            lower = BOUNDS_MS[place - 1] if place else 0.0
            return lower + (BOUNDS_MS[place] - lower) * (rank - below) / count
        below += count
    return BOUNDS_MS[-1]
