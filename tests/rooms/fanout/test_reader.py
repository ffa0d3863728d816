"""The reader: many ask, Postgres is asked little, and each gets exactly what it has missed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from rooms.database import threads
from rooms.fanout.passes import Passes
from rooms.fanout.reader import Reader
from rooms.log.directory import RoomRef
from rooms.log.entries import Entry
from tests.patience import PATIENCE
from tests.rooms.fanout.test_tail import entry

ROOM = RoomRef(1, "lobby", "abcdefgh")
HEAD, PAGE = 1000, 100


@pytest.fixture
async def reader(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Reader]:
    async def run(_: Any, __: RoomRef, after: int, limit: int) -> tuple[list[Entry], int]:
        await asyncio.sleep(0)
        page = [entry(serial) for serial in range(after + 1, min(after + limit, HEAD) + 1)]
        return page, page[-1].serial if len(page) == limit else HEAD

    monkeypatch.setattr(threads, "run", run)
    reader = Reader(Passes(slice_seconds=0.001), limit=PAGE, concurrency=2)
    yield reader
    reader.close()


async def ask(reader: Reader, asked: Sequence[int]) -> dict[int, tuple[list[int], int]]:
    found: dict[int, tuple[list[int], int]] = {}
    answered = asyncio.Event()

    def take(after: int, entries: Sequence[Entry], reaches: int) -> None:
        found[after] = ([each.serial for each in entries], reaches)
        if len(found) == len(set(asked)):
            answered.set()

    for after in asked:
        reader.read(ROOM, after, lambda answer, after=after: take(after, *answer))
    await asyncio.wait_for(answered.wait(), PATIENCE)
    return found


async def test_members_that_come_back_together_share_one_read_wherever_they_were(reader: Reader) -> None:
    found = await ask(reader, [920, 950, 999, 920, 930])

    assert reader.reads == 1
    assert found == {after: (list(range(after + 1, 1001)), 1000) for after in (920, 930, 950, 999)}


async def test_somebody_who_missed_much_does_not_hold_back_those_who_missed_little(reader: Reader) -> None:
    found = await ask(reader, [10, 990, 995])

    assert reader.reads == 2
    assert found[10] == (list(range(11, 111)), 110)
    assert found[990] == (list(range(991, 1001)), 1000)


async def test_who_asks_during_a_read_is_served_by_the_next(reader: Reader) -> None:
    first = asyncio.create_task(ask(reader, [950]))
    while not reader.reads:
        await asyncio.sleep(0)
    second = await ask(reader, [940, 960, 970])

    assert (await first)[950] == (list(range(951, 1001)), 1000)
    assert set(second) == {940, 960, 970}
    assert reader.reads == 2


async def test_a_failing_member_takes_no_other_with_it(reader: Reader) -> None:
    def fail(_: Any) -> None:
        raise RuntimeError("a fault")

    reader.read(ROOM, 950, fail)
    assert await ask(reader, [950, 960]) == {after: (list(range(after + 1, 1001)), 1000) for after in (950, 960)}


async def test_a_room_that_cannot_be_read_keeps_no_other_from_being_read(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = threads.run

    async def fail_for_some(function: Any, room: RoomRef, after: int, limit: int) -> Any:
        if room.id > 1:
            raise RuntimeError("a row that cannot be read")
        return await read(function, room, after, limit)

    monkeypatch.setattr(threads, "run", fail_for_some)
    for number in range(2, 6):  # more than there are slots
        reader.read(RoomRef(number, "broken", "abcdefgh"), 0, lambda found: None)
    await asyncio.sleep(0)
    assert (await asyncio.wait_for(ask(reader, [HEAD - 1]), PATIENCE))[HEAD - 1] == ([HEAD], HEAD)
