from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chatsite.swarm.results.tally import Place, Seen, Tally, Token


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 10**6), st.integers(0, 5))))
def test_the_last_member_of_all_processes_is_the_one_that_counts(parts: list[tuple[int, int, int]]) -> None:
    seen = [{Place(0, serial, Token(0, serial)): Seen(0, None, last, members)} for serial, last, members in parts]
    for place, merged in Tally.total(Tally(seen=each) for each in seen).seen.items():
        mine = [(last, members) for serial, last, members in parts if serial == place.serial]
        assert merged.last_at == max(last for last, _ in mine)
        assert merged.members == sum(members for _, members in mine)
