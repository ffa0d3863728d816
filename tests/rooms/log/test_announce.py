"""Announcing: batches while a send is under way, a lane for each server, bounds, and other Channels layers."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from channels.layers import InMemoryChannelLayer, channel_layers

from rooms.log import announce
from rooms.log.announce import Addressed, Announcer, group_of
from rooms.log.entries import Entry, unpack
from rooms.log.outcomes import Outcome, OutcomeKind
from tests.patience import PATIENCE
from tests.rooms.fanout.test_tail import entry


class LanesLayer:
    """Even rooms and odd rooms are on two servers, either of which may hang."""

    def __init__(self) -> None:
        self.sends: list[list[str]] = []
        self.serials: dict[str, list[int]] = defaultdict(list)
        self.open = {"even": asyncio.Event(), "odd": asyncio.Event()}

    def group_lane(self, group: str) -> str:
        return ("even", "odd")[int(group.removeprefix("room.")) % 2]

    def channel_lane(self, channel: str) -> str:
        return "even"

    async def send_many(self, *, groups: Sequence[Addressed], channels: Sequence[Addressed]) -> None:
        self.sends.append([name for name, _ in (*groups, *channels)])
        for group, message in groups:
            await self.open[self.group_lane(group)].wait()
            self.serials[group] += [arrived.serial for arrived in unpack(message["entries"])]


@pytest.fixture
async def layer() -> Iterator[LanesLayer]:
    layer = LanesLayer()
    former = channel_layers.set("default", layer)
    yield layer
    channel_layers.set("default", former)


def entry_of(room_id: int, serial: int) -> Entry:
    made: Any = entry(serial)
    return Entry(**{name: getattr(made, name) for name in Entry.__struct_fields__} | {"room_id": room_id})


async def announce_now(
    announcer: Announcer, entries: Sequence[Entry], news: Sequence[announce.GatewayOutcome] = ()
) -> None:
    announcer.announce(entries, news)
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_batch_is_one_send_a_server_and_one_broadcast_a_room(layer: LanesLayer) -> None:
    announcer = Announcer(asyncio.get_running_loop())
    layer.open["even"].set()
    layer.open["odd"].set()
    told = ("gateway.1", Outcome(kind=OutcomeKind.PUBLISHED, message=1, serial=1, error=None))
    entries = [entry_of(room, serial) for serial in (1, 2, 3) for room in range(1, 7)]
    await announce_now(announcer, entries, [told, told])

    assert sorted(layer.sends) == [["room.1", "room.3", "room.5"], ["room.2", "room.4", "room.6", "gateway.1"]]
    assert layer.serials == {group_of(room): [1, 2, 3] for room in range(1, 7)}


async def test_a_server_that_hangs_does_not_delay_the_rooms_of_another(layer: LanesLayer) -> None:
    announcer = Announcer(asyncio.get_running_loop())
    layer.open["odd"].set()
    for serial in range(1, 4):
        await announce_now(announcer, [entry_of(2, serial), entry_of(1, serial)])
    assert layer.serials == {"room.1": [1, 2, 3]}

    layer.open["even"].set()
    await announcer.close()
    assert layer.serials["room.2"] == [1, 2, 3]
    assert layer.sends.count(["room.2"]) == 2  # what came while the first was under way went out together


async def test_what_waits_for_one_server_is_bounded_and_the_newest_stay(
    layer: LanesLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announce, "MAX_WAITING_ENTRIES", 3)
    announcer = Announcer(asyncio.get_running_loop())
    await announce_now(announcer, [entry_of(2, 1)])
    await announce_now(announcer, [entry_of(2, serial) for serial in range(2, 8)])
    layer.open["even"].set()
    await announcer.close()

    assert layer.serials["room.2"] == [1, 5, 6, 7]
    assert announcer.dropped == 3


async def test_news_that_are_dropped_are_counted_too(layer: LanesLayer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announce, "MAX_WAITING_ENTRIES", 3)
    announcer = Announcer(asyncio.get_running_loop())
    told = ("gateway.1", Outcome(kind=OutcomeKind.PUBLISHED, message=1, serial=1, error=None))
    await announce_now(announcer, [entry_of(2, 1)])
    await announce_now(announcer, [], [told] * 5)

    assert announcer.dropped == 2
    layer.open["even"].set()
    await announcer.close()


class ManyServersLayer(LanesLayer):
    """Each room is on a server of its own, and all hang."""

    def group_lane(self, group: str) -> str:
        return group

    async def send_many(self, *, groups: Sequence[Addressed], channels: Sequence[Addressed]) -> None:
        self.sends.append([name for name, _ in (*groups, *channels)])
        await self.open["even"].wait()


async def test_a_server_has_one_sender_however_many_servers_a_batch_is_for() -> None:
    layer = ManyServersLayer()
    former = channel_layers.set("default", layer)
    try:
        announcer = Announcer(asyncio.get_running_loop())
        rooms = range(1, announce.MAX_LANES + 3)
        await announce_now(announcer, [entry_of(room, 1) for room in rooms])
        await announce_now(announcer, [entry_of(room, 2) for room in rooms])
        assert sorted(layer.sends) == sorted([group_of(room)] for room in rooms)
        layer.open["even"].set()
        await announcer.close()
    finally:
        channel_layers.set("default", former)


async def test_a_layer_that_sends_one_at_a_time_will_do() -> None:
    layer = InMemoryChannelLayer()
    former = channel_layers.set("default", layer)
    try:
        channel = await layer.new_channel()
        await layer.group_add(group_of(1), channel)
        announcer = Announcer(asyncio.get_running_loop())
        await announce_now(announcer, [entry_of(1, 1), entry_of(1, 2), entry_of(2, 1)])
        message = await asyncio.wait_for(layer.receive(channel), PATIENCE)
    finally:
        channel_layers.set("default", former)

    assert [arrived.serial for arrived in unpack(message["entries"])] == [1, 2]


async def test_one_that_fails_is_told_once_and_costs_no_more(
    layer: LanesLayer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(**_: Any) -> None:
        raise ConnectionError

    announcer = Announcer(asyncio.get_running_loop())
    monkeypatch.setattr(layer, "send_many", fail)
    for serial in (1, 2, 3):
        await announce_now(announcer, [entry_of(2, serial)])
    monkeypatch.undo()
    layer.open["even"].set()
    await announce_now(announcer, [entry_of(2, 4)])

    warnings = [record.getMessage() for record in caplog.records if record.name == "rooms.log.announce"]
    assert warnings == [
        "Redis (even) is away (ConnectionError); hubs read from Postgres meanwhile",
        "Redis (even) is back",
    ]
    assert layer.serials["room.2"] == [4]
