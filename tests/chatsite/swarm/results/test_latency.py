from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chatsite.swarm.results.latency import Latency, bucket_of, end_of


def test_percentiles_come_out_in_milliseconds() -> None:
    latency = Latency()
    for milliseconds in range(100):
        latency.add(milliseconds / 1000 + 0.00005)
    assert (latency.percentile(0.5), latency.percentile(1.0)) == (49.1, 99.1)
    assert Latency().percentile(0.5) is None


@given(st.integers(-5, 10**9))
def test_a_bucket_holds_a_duration_to_within_two_in_a_thousand(step: int) -> None:
    end = end_of(bucket_of(step))
    assert max(step, 0) < end <= max(step, 0) * 1.002 + 1


@given(st.lists(st.integers(0, 10**7)))
def test_longer_durations_have_higher_buckets(steps: list[int]) -> None:
    buckets = [bucket_of(step) for step in sorted(steps)]
    assert buckets == sorted(buckets)


@given(st.lists(st.lists(st.integers(0, 10**6)), max_size=4))
def test_parts_merged_are_what_one_histogram_had_counted(parts: list[list[int]]) -> None:
    whole = Latency()
    histograms = []
    for part in parts:
        histograms.append(Latency())
        for step in part:
            histograms[-1].add_steps(step)
            whole.add_steps(step)
    assert Latency.merged(histograms).counts == whole.counts
