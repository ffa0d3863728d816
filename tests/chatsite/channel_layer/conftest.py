"""Layers as gateways and workers have them, on servers of the tests' own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chatsite.channel_layer.layer import BroadcastLayer
from tests.chatsite.channel_layer.servers import Server, cluster, running
from tests.instance import open_folder
from tests.patience import PATIENCE

MakeLayer = Callable[..., BroadcastLayer]


@pytest.fixture
async def make_layer() -> AsyncIterator[MakeLayer]:
    """Make a layer for an address; each is like another process."""
    made: list[BroadcastLayer] = []

    def make(url: str, *, timeout: float = PATIENCE, inbox_bytes: int = 1_000_000) -> BroadcastLayer:
        made.append(BroadcastLayer(url=url, timeout=timeout, inbox_bytes=inbox_bytes, prefix="chat"))
        return made[-1]

    yield make
    for layer in made:
        await layer.flush()


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with open_folder("chatsite-layer-") as path:
        yield path


@pytest.fixture(scope="module")
def two_servers(folder: Path) -> Iterator[list[Server]]:
    """Two servers that know nothing of each other; whoever kills one starts it again."""
    with running(folder / "two_servers", 2) as servers:
        yield servers


@pytest.fixture(scope="module")
def nodes(folder: Path) -> Iterator[list[Server]]:
    """A cluster of three primaries and one replica; whoever kills one starts it again."""
    with cluster(folder / "cluster") as servers:
        yield servers


class Listener:
    """A gateway's side: one channel, in the groups that it joins, and what arrived there."""

    def __init__(self, layer: BroadcastLayer, channel: str) -> None:
        self.layer = layer
        self.channel = channel
        self.heard: list[Any] = []

    @classmethod
    async def on(cls, layer: BroadcastLayer, *groups: str) -> Listener:
        """Return a listener that has joined these groups."""
        listener = cls(layer, await layer.new_channel("gateway."))
        for group in groups:
            await layer.group_add(group, listener.channel)
        return listener

    async def hears(self, count: int, *, seconds: float = PATIENCE) -> list[Any]:
        """Return the next `count` messages' numbers."""
        async with asyncio.timeout(seconds):
            return [(await self.layer.receive(self.channel))["number"] for _ in range(count)]

    async def hears_what_is_sent(self, sender: BroadcastLayer, group: str, *, seconds: float = PATIENCE) -> None:
        """Send again and again until something arrives: what was lost meanwhile is healed elsewhere."""
        async with asyncio.timeout(seconds):
            receiving = asyncio.create_task(self.layer.receive(self.channel))
            while not receiving.done():
                try:
                    await sender.group_send(group, {"number": -1})
                except Exception:
                    pass
                await asyncio.wait([receiving], timeout=0.05)


async def expect_a_batch_at_exactly_those_who_joined(
    sender: BroadcastLayer, first: BroadcastLayer, second: BroadcastLayer
) -> None:
    """Send 2,500 messages into 20 rooms at once: in order of each room, and nothing of a room to who is not in it."""
    everywhere = await Listener.on(first, *(f"room.{n}" for n in range(20)))
    somewhere = await Listener.on(second, "room.3", "room.4")

    await sender.send_many(
        groups=[(f"room.{number % 20}", {"number": number}) for number in range(2500)],
        channels=[(somewhere.channel, {"number": 2500})],
    )

    heard = await everywhere.hears(2500)
    for room in range(20):
        assert [number for number in heard if number % 20 == room] == list(range(room, 2500, 20))
    heard = await somewhere.hears(251)
    assert sorted(heard) == sorted([n for n in range(2500) if n % 20 in (3, 4)] + [2500])
    assert second.received == 251  # nothing else came over the network
