"""The tail: whatever order, loss or repetition broadcasts have, it is an unbroken run."""

from __future__ import annotations

import sys
from types import FrameType

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from rooms.fanout.tail import Tail
from rooms.log.entries import Entry, pack, unpack
from rooms.protocol.wire import Message


def entry(serial: int, *, author: str = "c", size: int = 100, action: int = 0) -> Entry:
    return Entry(
        room_id=1,
        room="lobby",
        serial=serial,
        pk=serial,
        wire=Message(
            id=f"m{serial}", connection_id=author, data=f"text {serial}", serial=f"{serial:012d}", action=action
        ),
        size=size,
    )


def serials(entries: list[Entry] | None) -> list[int] | None:
    return None if entries is None else [found.serial for found in entries]


@given(st.lists(st.integers(1, 30), max_size=120))
def test_the_tail_holds_the_longest_run_of_what_arrived_in_any_order(arrivals: list[int]) -> None:
    tail = Tail(0, max_bytes=10**9)
    for serial in arrivals:
        tail.add([entry(serial)])

    run = next(serial for serial in range(1, 32) if serial not in arrivals) - 1
    assert tail.position == run
    assert serials(tail.after(0)) == list(range(1, run + 1))
    assert tail.has_hole == (max(arrivals, default=0) > run)


@given(st.sets(st.integers(1, 30)), st.integers(0, 30))
def test_what_postgres_has_fills_every_hole(arrivals: set[int], asked_at: int) -> None:
    tail = Tail(0, max_bytes=10**9)
    for serial in sorted(arrivals, reverse=True):
        tail.add([entry(serial)])
    tail.fill([entry(serial) for serial in range(tail.position + 1, 31)], 30)

    assert tail.position == 30 and not tail.has_hole
    assert serials(tail.after(asked_at)) == list(range(asked_at + 1, 31))


def test_a_place_that_an_edit_left_empty_is_no_hole() -> None:
    tail = Tail(0, max_bytes=10**9)
    tail.fill([entry(1), entry(4)], 5)
    tail.add([entry(6)])

    assert (tail.position, serials(tail.after(0))) == (6, [1, 4, 6])


@given(st.integers(1, 50), st.integers(100, 3000))
def test_memory_stays_under_its_limit_and_says_so_honestly(count: int, limit: int) -> None:
    tail = Tail(0, max_bytes=limit)
    tail.add([entry(serial) for serial in range(1, count + 1)])

    for serial in range(count + 1):
        known = tail.after(serial)
        assert known is None or serials(known) == list(range(serial + 1, count + 1))
    assert len(tail.after(tail.floor) or []) * 100 <= max(limit, 100)


@given(st.lists(st.binary(max_size=20) | st.text(max_size=20)))
def test_entries_survive_the_broadcast(datas: list[bytes | str]) -> None:
    entries = [
        Entry(room_id=1, room="r", serial=place, pk=place, wire=Message(id="x", data=data), size=1)
        for place, data in enumerate(datas)
    ]
    assert unpack(pack(entries)) == entries


def test_what_waits_for_a_hole_to_be_filled_takes_no_more_memory_than_the_tail() -> None:
    tail = Tail(0, max_bytes=1000)
    tail.add([entry(serial, size=300) for serial in range(2, 30)])

    assert len(tail._stash) == 3
    assert tail.known_head == 29  # the rest is read from Postgres
    tail.add([entry(1, size=300)])
    assert (tail.position, tail._stash_bytes) == (4, 0)


def test_a_burst_of_edits_costs_no_search_of_the_whole_tail_each() -> None:
    tail = Tail(0, max_bytes=10**9)
    tail.fill([entry(serial) for serial in range(1, 7001)], 7000)
    edits = [replace(entry(7000 + place, action=1), pk=place) for place in range(1, 501)]
    searched = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal searched
        searched += event == "call"

    sys.setprofile(count)
    try:
        tail.add(edits)
    finally:
        sys.setprofile(None)
    # Each edit makes some calls; a search would make one for each of 7,000 entries.
    assert searched < 500 * 60
    assert serials(tail.after(0)) == [*range(501, 7501)]
    assert tail.bytes_kept == 7000 * 100
