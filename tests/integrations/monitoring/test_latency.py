"""Buckets of durations: they add up, and quantiles are right within an eighth."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from integrations.monitoring.latency import BOUNDS_MS, BUCKETS, add_up, bucket_of, quantile

durations = st.lists(st.floats(min_value=1.0, max_value=900_000.0), min_size=1, max_size=200)


def counted(milliseconds: list[float]) -> list[int]:
    buckets = [0] * BUCKETS
    for one in milliseconds:
        buckets[bucket_of(one)] += 1
    return buckets


def test_bounds_grow_by_about_a_quarter() -> None:
    assert all(1.24 < after / before < 1.29 for before, after in itertools.pairwise(BOUNDS_MS))
    assert bucket_of(1.0) == 0
    assert bucket_of(1e9) == BUCKETS - 1


@given(durations, st.floats(min_value=0.01, max_value=1.0))
def test_a_quantile_lies_in_the_bucket_of_the_true_one(milliseconds: list[float], share: float) -> None:
    found = quantile(counted(milliseconds), share)
    true = sorted(milliseconds)[max(0, -int(-share * len(milliseconds) // 1) - 1)]

    assert found is not None
    assert abs(bucket_of(found) - bucket_of(true)) <= 1  # a rank on the border of two buckets may fall on either


@given(durations, durations)
def test_buckets_of_two_workers_add_up_to_those_of_both(left: list[float], right: list[float]) -> None:
    assert add_up([counted(left), counted(right)]) == counted(left + right)


@given(durations)
def test_a_larger_share_never_takes_less_time(milliseconds: list[float]) -> None:
    buckets = counted(milliseconds)
    found = [quantile(buckets, share / 20) or 0.0 for share in range(1, 21)]

    assert found == sorted(found)


def test_nothing_is_told_of_no_calls() -> None:
    assert quantile([], 0.5) is None
    assert quantile([0] * BUCKETS, 0.99) is None


def test_what_took_longer_than_the_last_bound_is_told_as_that_bound() -> None:
    assert quantile(counted([2_000_000.0]), 0.5) == BOUNDS_MS[-1]
