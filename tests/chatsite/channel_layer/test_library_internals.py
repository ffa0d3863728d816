"""The installed channels_redis has the undocumented parts that the channel layer relies on, with their effects."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from channels_redis.pubsub import RedisPubSubChannelLayer, RedisPubSubLoopLayer
from channels_redis.utils import _wrap_close

from chatsite.channel_layer import library_internals
from chatsite.channel_layer.layer import BroadcastLayer, LoopLayer
from chatsite.channel_layer.library_internals import LayerOfLoop, LayerOfProcess, Shard, place_on_ring
from tests.library_contracts import ROOT, hint, missing, overridden_by_chance, parameters, private_uses

MODULE = "chatsite/channel_layer/library_internals.py"


class Recording(LayerOfLoop):
    """A layer of one loop that notes what channels_redis asks of it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.asked: list[tuple[str, str]] = []
        self.is_flushed = False

    async def open_channel(self, channel: str) -> None:
        self.asked.append(("open", channel))
        self.channels[channel] = asyncio.Queue()

    def shard(self) -> Shard:
        return Shard(self.note("subscribe"), self.note("unsubscribe"))

    def note(self, verb: str) -> Any:
        async def noting(channel: str) -> None:
            self.asked.append((verb, channel))

        return noting

    async def flush(self) -> None:
        self.is_flushed = True


def test_every_method_is_there() -> None:
    assert not missing(library_internals.METHODS), hint(MODULE, missing(library_internals.METHODS))


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (RedisPubSubChannelLayer._get_layer, ["self"]),
        (RedisPubSubLoopLayer._get_shard, ["self", "channel_or_group_name"]),
        (RedisPubSubLoopLayer._get_group_channel_name, ["self", "group"]),
        (RedisPubSubLoopLayer._subscribe_to_channel, ["self", "channel"]),
        (_wrap_close, ["proxy", "loop"]),
    ],
)
def test_methods_take_what_they_took(function: Any, names: list[str]) -> None:
    assert parameters(function) == names, hint(MODULE, function)


@pytest.mark.parametrize("kind", [BroadcastLayer, LoopLayer])
def test_no_private_name_of_ours_is_the_library_s_by_chance(kind: type) -> None:
    found = overridden_by_chance(kind, "chatsite.channel_layer")

    assert not found, hint(MODULE, found)


def test_no_other_module_reaches_a_private_part() -> None:
    assert not list(private_uses(ROOT / "chatsite" / "channel_layer"))


async def test_channels_and_groups_are_opened_and_left_through_the_subclass() -> None:
    process = LayerOfProcess(Recording, prefix="chat")
    here = process.of_this_loop()
    channel = await process.new_channel("gateway.")
    await process.group_add("room.1", channel)
    await process.group_discard("room.1", channel)

    group = here.group_channel("room.1")
    assert group == "chat__group__room.1"
    assert here.asked == [("open", channel), ("subscribe", group), ("unsubscribe", group)], hint(MODULE, "LayerOfLoop")
    assert process.of_this_loop() is here


async def test_what_is_put_into_a_channel_is_received() -> None:
    process = LayerOfProcess(Recording, prefix="chat")
    channel = await process.new_channel()
    process.of_this_loop().channels[channel].put_nowait(process.serialize({"type": "room.published"}))

    assert await process.receive(channel) == {"type": "room.published"}, hint(MODULE, "LayerOfLoop.channels")


def test_a_layer_is_flushed_with_its_loop() -> None:
    process = LayerOfProcess(Recording, prefix="chat")
    loop = asyncio.new_event_loop()

    async def use() -> Any:
        return process.of_this_loop()

    here = loop.run_until_complete(use())
    loop.close()

    assert here.is_flushed, hint(MODULE, "_wrap_close")


def test_rooms_stay_on_their_servers_from_release_to_release() -> None:
    places = [place_on_ring(f"chat__group__room.{number}", 3) for number in range(8)]

    assert places == [1, 1, 1, 1, 0, 0, 0, 0], hint(MODULE, "_consistent_hash")
    assert place_on_ring("chat__group__room.1", 1) == 0
