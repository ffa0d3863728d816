"""Every undocumented part of channels_redis that this layer relies on, and nothing else.

The classes here give those parts names of our own. tests/chatsite/channel_layer/test_library_internals.py checks each
part on the installed release. pyproject.toml bounds the releases of channels_redis and redis from above: a bound is
raised once those tests pass on the next release.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from channels_redis.pubsub import RedisPubSubChannelLayer, RedisPubSubLoopLayer
from channels_redis.utils import _consistent_hash, _wrap_close

METHODS: Final[dict[type, tuple[str, ...]]] = {
    RedisPubSubChannelLayer: ("_get_layer", "serialize", "deserialize"),
    RedisPubSubLoopLayer: (
        *("_get_shard", "_get_group_channel_name", "_subscribe_to_channel"),
        *("send", "receive", "new_channel", "group_add", "group_discard", "group_send", "flush"),
    ),
}


def place_on_ring(name: str, size: int) -> int:
    """Return which of `size` servers carries a Redis channel of this name."""
    return int(_consistent_hash(name, size))


class LayerOfProcess(RedisPubSubChannelLayer):  # type: ignore[misc] # channels_redis ships no types
    """channels_redis' layer, which hands each call on to the layer of the running event loop: here to one of ours."""

    def __init__(self, make: Callable[..., Any], **options: Any) -> None:
        super().__init__(**options)
        self._make = make  # a LayerOfLoop

    def of_this_loop(self) -> Any:
        """Return the layer of the running event loop. It is made now if there is none, and closed with the loop."""
        loop = asyncio.get_running_loop()
        layer = self._layers.get(loop)
        if layer is None:
            layer = self._layers[loop] = self._make(**self._kwargs, channel_layer=self)
            _wrap_close(self, loop)
        return layer

    _get_layer = of_this_loop


@dataclass(frozen=True)
class Shard:
    """The connection to one server, as far as channels_redis asks it for something."""

    subscribe: Callable[[str], Awaitable[None]]
    unsubscribe: Callable[[str], Awaitable[None]]


class LayerOfLoop(RedisPubSubLoopLayer):  # type: ignore[misc] # channels_redis ships no types
    """channels_redis' layer of one event loop, whose connections and queues the subclass provides."""

    def group_channel(self, group: str) -> str:
        """Return the name of the Redis channel that carries a group."""
        return str(self._get_group_channel_name(group))

    async def open_channel(self, channel: str) -> None:
        """Make the queue of a channel of this process, in `self.channels`, and subscribe to it."""
        raise NotImplementedError

    def shard(self) -> Shard:
        """Return the functions that subscribe to Redis channels of any name."""
        raise NotImplementedError

    async def _subscribe_to_channel(self, channel: str) -> None:
        await self.open_channel(channel)

    def _get_shard(self, name: str) -> Shard:
        return self.shard()
