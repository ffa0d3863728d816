"""Memory: all rooms together stay below the limit, and busy rooms keep what quiet ones give."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rooms.fanout.frames import FrameCache
from rooms.fanout.memory import Memory
from rooms.fanout.tail import Tail
from tests.rooms.fanout.test_tail import entry


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 400)), max_size=80), st.integers(400, 3000))
def test_tails_together_stay_under_the_limit_and_know_what_they_dropped(
    grown: list[tuple[int, int]], limit: int
) -> None:
    memory = Memory(max_bytes=limit)
    tails = [Tail(0, max_bytes=2000, memory=memory) for _ in range(5)]
    for number, size in grown:
        tail = tails[number]
        tail.add([entry(tail.position + 1, size=size)])

        assert memory.used == sum(each.bytes_kept for each in tails) <= limit
    for tail in tails:
        kept = tail.after(tail.floor)
        assert kept is not None and [each.serial for each in kept] == list(range(tail.floor + 1, tail.position + 1))
    for tail in tails:
        memory.release(tail)
    assert memory.used == 0


def test_the_quietest_room_gives_first() -> None:
    memory = Memory(max_bytes=1000)
    quiet, busy = (Tail(0, max_bytes=10_000, memory=memory) for _ in range(2))
    quiet.add([entry(1, size=400)])
    for serial in range(1, 9):
        busy.add([entry(serial, size=100)])

    assert (quiet.floor, busy.floor) == (1, 0)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 300)), max_size=60))
def test_batches_stay_under_their_limit(put: list[tuple[int, int]]) -> None:
    cache = FrameCache(max_bytes=500)
    for key, size in put:
        if cache.get(key) is None:
            cache.put(key, bytes(size))
        assert cache.bytes_kept <= 500
