"""The gateway: a room's members hear of it whatever Redis does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from django.db import OperationalError

from rooms.database import threads
from rooms.fanout.hub import Hub
from rooms.gateway.gateway import EMPTY_HUB_SECONDS, Gateway
from rooms.log.announce import group_of
from rooms.log.directory import RoomRef
from rooms.log.entries import pack
from tests.patience import PATIENCE
from tests.rooms.fanout.test_tail import entry

ROOM, OTHER = RoomRef(1, "lobby", "abcdefgh"), RoomRef(2, "other", "abcdefgh")


class HangingLayer:
    """A Redis that takes connections and never answers."""

    async def hang(self, *_: Any) -> Any:
        await asyncio.Event().wait()

    new_channel = receive = group_add = group_discard = group_send = send = hang


@pytest.fixture
async def gateway(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gateway]:
    monkeypatch.setattr("rooms.gateway.gateway.get_channel_layer", HangingLayer)
    here = Gateway()
    here.channel = "mine"
    here._connected.set()
    yield here
    await here.close()


def hub_of(gateway: Gateway) -> Hub:
    hub = Hub(ROOM, gateway._resources, position=0)
    gateway.hubs[ROOM.id] = hub
    return hub


async def test_an_empty_hub_that_somebody_is_about_to_join_is_not_closed(gateway: Gateway) -> None:
    hub = hub_of(gateway)
    gateway._empty_since[ROOM.id] = asyncio.get_running_loop().time() - 2 * EMPTY_HUB_SECONDS

    assert await gateway.hub(ROOM) is hub  # an attach that now reads from Postgres where to begin
    await gateway._close_empty_hubs()
    assert gateway.hubs == {ROOM.id: hub}


async def test_what_is_broadcast_while_a_hub_opens_is_not_late(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def repeat(function: Any, *args: Any) -> Any:
        gateway._receive_entries(
            [entry(2)]
        )  # committed after Postgres has answered, and heard of before the answer is here
        return [entry(1)], 0, 1

    monkeypatch.setattr(threads, "repeat", repeat)
    monkeypatch.setattr(gateway, "_subscribe", repeat_true)
    hub = await gateway.hub(ROOM)

    assert hub.tail.position == 2


async def repeat_true(room_id: int) -> bool:
    return True


async def test_a_room_that_cannot_be_read_is_left_again(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[str] = []

    async def fail(function: Any, *args: Any) -> Any:
        raise OperationalError("the database is away")

    async def group_discard(group: str, channel: str) -> None:
        left.append(group)

    monkeypatch.setattr(threads, "repeat", fail)
    monkeypatch.setattr(gateway, "_subscribe", repeat_true)
    monkeypatch.setattr(gateway._layer, "group_discard", group_discard)
    with pytest.raises(OperationalError):
        await gateway.hub(ROOM)

    assert left == [group_of(ROOM.id)]
    assert not gateway._early and not gateway._opening


async def test_a_fault_in_one_room_is_not_the_others(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    faulty, fine = Hub(ROOM, gateway._resources, position=0), Hub(OTHER, gateway._resources, position=0)
    gateway.hubs |= {ROOM.id: faulty, OTHER.id: fine}
    monkeypatch.setattr(faulty, "receive", None)
    gateway._receive_entries([entry(1), msgspec.structs.replace(entry(1), room_id=OTHER.id)])

    assert fine.tail.position == 1


async def test_lost_broadcasts_are_found_while_redis_hangs(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(function: Any, *args: Any, **kwargs: Any) -> Any:
        return {ROOM.id: 2} if function.__name__ == "read_heads" else ([entry(1), entry(2)], 2)

    monkeypatch.setattr(threads, "run", run)
    hub = hub_of(gateway)
    tending = asyncio.create_task(gateway._tend_hubs())  # waits for Redis to subscribe the hub
    async with asyncio.timeout(PATIENCE):
        await gateway.healer.heal_all()

    assert hub.tail.position == 2
    assert not tending.done()
    tending.cancel()


async def test_broadcasts_of_another_version_do_not_hold_back_the_others(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    arriving: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    for entries in (msgspec.msgpack.encode([[1, "lobby"]]), b"\xc1", pack([entry(1)])):
        arriving.put_nowait({"type": "room.published", "entries": entries})
    monkeypatch.setattr(gateway, "_layer", SimpleNamespace(receive=lambda channel: arriving.get()))
    hub = hub_of(gateway)
    receiving = asyncio.create_task(gateway._receive())
    async with asyncio.timeout(PATIENCE):
        while hub.tail.position != 1:
            await asyncio.sleep(0)
    receiving.cancel()

    assert "waiting for Redis" not in caplog.text  # which comes with a pause
