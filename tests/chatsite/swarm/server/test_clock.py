from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chatsite.swarm.server.clock import offset_of


@given(
    st.floats(-(10**6), 10**6),
    st.lists(st.tuples(st.floats(0, 100), st.floats(0, 0.01), st.floats(0, 1)), min_size=1, max_size=12),
)
def test_the_difference_of_clocks_is_found_to_within_the_best_round_trip(
    offset: float, asked: list[tuple[float, float, float]]
) -> None:
    """The server's answer is its clock at some moment of the round trip, cut to the millisecond below."""
    answers = [
        (before, int((before + trip * part + offset) * 1000 // 1), before + trip) for before, trip, part in asked
    ]
    assert abs(offset_of(answers) - offset) <= min(trip for _, trip, _ in asked) / 2 + 0.001
