"""A gateway's heartbeat: right again after each fault, and never wrong because of one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import OperationalError

from rooms.database import threads
from rooms.occupancy import heartbeat
from rooms.occupancy import store as occupancy_store
from rooms.occupancy.counts import Metrics
from rooms.occupancy.heartbeat import SETTLE_BEATS, GatewayOccupancy
from rooms.protocol.wire import Flag
from tests.rooms.occupancy.test_subscribers import ROOM, member, told


class Store:
    """Stands where Postgres stands."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows: dict[int, Metrics] = {}
        self.gateways: list[int] = []
        self.others = 0
        self.is_away = False
        self.asked: list[str] = []
        for name in ("register", "beat", "read_others", "forget_silent", "unregister"):
            monkeypatch.setattr(occupancy_store, name, getattr(self, name))
        monkeypatch.setattr(threads, "run", self.run)

    async def run(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        self.asked.append(function.__name__)
        if self.is_away:
            raise OperationalError("away")
        return function(*args, **kwargs)

    def register(self, server_id: str, *, connections_max: int) -> int:
        self.gateways.append(len(self.gateways) + 1)
        return self.gateways[-1]

    def beat(self, gateway: int, connections: int, changes: Any) -> bool:
        if gateway != self.gateways[-1]:
            return False
        self.rows.update(changes)
        return True

    def read_others(self, gateway: int | None, rooms: list[int]) -> dict[int, Metrics]:
        return {room: Metrics(connections=self.others) for room in rooms} if self.others else {}

    def forget_silent(self) -> None: ...

    def unregister(self, gateway: int) -> None:
        self.rows.clear()


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    yield Store(monkeypatch)


def attach(desk: GatewayOccupancy) -> Any:
    desk.counters.enter(ROOM.id, Flag.SUBSCRIBE)
    one, peer = member()
    desk.subscribers.add(ROOM, one, "metrics.connections")
    return peer


async def test_a_member_is_told_of_the_others_and_of_its_own_gateway(store: Store) -> None:
    desk, store.others = GatewayOccupancy("s"), 3
    peer = attach(desk)
    await desk.beat(1)
    desk.counters.enter(ROOM.id, Flag.PUBLISH)
    await desk.beat(2)
    await desk.beat(2)
    assert told(peer) == [{"connections": 4}, {"connections": 5}]
    assert store.rows == {ROOM.id: Metrics(2, 1, 1, 0, 0)}


async def test_a_heartbeat_asks_two_questions_however_many_there_are(store: Store) -> None:
    desk = GatewayOccupancy("s")
    for _ in range(100):
        attach(desk)
    await desk.beat(100)
    store.asked.clear()
    await desk.beat(100)
    assert store.asked == ["beat", "read_others"]


async def test_while_postgres_is_away_the_last_that_was_known_holds(store: Store) -> None:
    desk, store.others = GatewayOccupancy("s"), 3
    peer = attach(desk)
    await desk.beat(1)
    store.is_away = True
    late = attach(desk)
    for _ in range(3):
        with pytest.raises(OperationalError):
            await desk.beat(1)
    assert told(peer) == told(late) == [{"connections": 4}]
    assert desk.missed == 3


async def test_after_a_pause_the_others_have_time_to_report_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk, store.others = GatewayOccupancy("s"), 3
    peer = attach(desk)
    await desk.beat(1)
    clock = asyncio.get_running_loop().time() + occupancy_store.ALIVE_SECONDS + 1
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: clock)
    store.others = 0  # nobody has come back yet
    for _ in range(SETTLE_BEATS):
        await desk.beat(1)
    store.others = 2
    await desk.beat(1)
    assert told(peer) == [{"connections": 4}, {"connections": 3}]


async def test_a_gateway_that_was_forgotten_tells_everything_anew_and_waits_for_the_others(store: Store) -> None:
    desk, store.others = GatewayOccupancy("s"), 3
    peer = attach(desk)
    await desk.beat(1)
    store.rows.clear()  # Postgres came back from a crash with empty tables, or somebody took us for dead
    store.gateways.append(99)
    store.others = 0
    await desk.beat(1)
    assert store.rows == {ROOM.id: Metrics(1, 0, 1, 0, 0)}
    store.others = 3
    for _ in range(SETTLE_BEATS):
        await desk.beat(1)
    assert told(peer) == [{"connections": 4}]


async def test_closing_takes_it_out_and_does_not_wait_for_a_postgres_that_hangs(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk, other = GatewayOccupancy("s"), GatewayOccupancy("t")
    attach(desk)
    await desk.beat(1)
    await other.beat(0)
    await desk.close()
    assert store.rows == {}

    async def hang(*_: Any, **__: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(threads, "run", hang)
    monkeypatch.setattr(heartbeat, "CLOSE_SECONDS", 0.01)
    await other.close()
