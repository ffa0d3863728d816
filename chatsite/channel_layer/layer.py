"""The Channels layer of this project: channels_redis' pub/sub layer on connections of our own.

What its own connections lack: many broadcasts in one round trip, a bound on what waits to be handled, a publish that
does not wait for subscriptions (both take one lock there), a sign of life from a silent server, and Redis Cluster.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

from channels_redis.pubsub import RedisPubSubChannelLayer, RedisPubSubLoopLayer
from channels_redis.utils import _wrap_close

from chatsite.channel_layer.addresses import parse
from chatsite.channel_layer.cluster import Cluster
from chatsite.channel_layer.inbox import Inbox
from chatsite.channel_layer.node import Links
from chatsite.channel_layer.shards import Broker, Shards

Addressed = tuple[str, Mapping[str, Any]]  # a group's or a channel's name, and the message


class BroadcastLayer(RedisPubSubChannelLayer):  # type: ignore[misc] # channels_redis ships no types
    """One object a process; each event loop gets connections of its own, closed with the loop.

    It is a rooms.log.announce.ManyLayer too. All methods need a running loop.
    """

    def __init__(self, *, url: str, inbox_bytes: int, timeout: float, **options: Any) -> None:
        super().__init__(**options)
        parse(url)  # refuse nonsense when the process starts, not at the first message
        self._kwargs |= {"url": url, "inbox_bytes": inbox_bytes, "timeout": timeout}

    def group_lane(self, group: str) -> Hashable:
        """Return what fails and hangs together with this group: who sends to several does not wait for one."""
        return self._get_layer().group_lane(group)

    def channel_lane(self, channel: str) -> Hashable:
        """The same for a channel."""
        return self._get_layer().channel_lane(channel)

    async def send_many(self, *, groups: Sequence[Addressed], channels: Sequence[Addressed]) -> None:
        """Send all, in order, in one round trip a server. Raises when anything did not get through."""
        await self._get_layer().send_many(groups=groups, channels=channels)

    def _get_layer(self) -> LoopLayer:
        loop = asyncio.get_running_loop()
        layer: LoopLayer | None = self._layers.get(loop)
        if layer is None:
            layer = self._layers[loop] = LoopLayer(**self._kwargs, channel_layer=self)
            _wrap_close(self, loop)
        return layer


class LoopLayer(RedisPubSubLoopLayer):  # type: ignore[misc] # channels_redis ships no types
    """The layer of one event loop."""

    def __init__(self, *, url: str, inbox_bytes: int, timeout: float, **options: Any) -> None:
        super().__init__(**options)
        self.received = 0  # messages
        self.received_bytes = 0
        self._inbox_bytes = inbox_bytes
        self._overflowed = 0  # by inboxes that are gone
        servers = parse(url)
        links = Links(sharded=servers.is_cluster, timeout=timeout, deliver=self._deliver, on_trouble=_do_nothing)
        self.broker: Broker = (Cluster if servers.is_cluster else Shards)(servers.addresses, links)

    @property
    def reconnects(self) -> int:
        """How often a connection that listens was lost."""
        return self.broker.reconnects

    @property
    def overflowed(self) -> int:
        """Messages that came faster than they were handled."""
        waiting: Iterable[Inbox] = self.channels.values()
        return self._overflowed + sum(inbox.dropped for inbox in waiting)

    # --- Publishing --------------------------------------------------------------------------------------

    def group_lane(self, group: str) -> Hashable:
        """See BroadcastLayer."""
        return self.broker.lane(self._get_group_channel_name(group))

    def channel_lane(self, channel: str) -> Hashable:
        """See BroadcastLayer."""
        return self.broker.lane(channel)

    async def send_many(self, *, groups: Sequence[Addressed], channels: Sequence[Addressed]) -> None:
        """See BroadcastLayer."""
        serialize = self.channel_layer.serialize
        await self.broker.publish(
            [(self._get_group_channel_name(group), serialize(message)) for group, message in groups]
            + [(channel, serialize(message)) for channel, message in channels]
        )

    async def send(self, channel: str, message: Mapping[str, Any]) -> None:
        """See the specification of channel layers."""
        await self.send_many(groups=(), channels=[(channel, message)])

    async def group_send(self, group: str, message: Mapping[str, Any]) -> None:
        """See the specification of channel layers."""
        await self.send_many(groups=[(group, message)], channels=())

    # --- Receiving ---------------------------------------------------------------------------------------

    async def _subscribe_to_channel(self, channel: str) -> None:
        self.channels[channel] = Inbox(max_bytes=self._inbox_bytes)
        try:
            await self.broker.subscribe(channel)
        except BaseException:
            # The caller never learns its name: nobody else can take it away.
            if (inbox := self.channels.pop(channel, None)) is not None:  # None: everything was flushed meanwhile
                self._overflowed += inbox.dropped
            await self.broker.leave(channel)
            raise

    def _deliver(self, name: str, data: bytes) -> None:
        self.received += 1
        self.received_bytes += len(data)
        if (inbox := self.channels.get(name)) is not None:
            inbox.put_nowait(data)
        for channel in self.groups.get(name, ()):
            if (inbox := self.channels.get(channel)) is not None:
                inbox.put_nowait(data)

    def _get_shard(self, name: str) -> _Shard:
        return _Shard(self.broker)

    async def flush(self) -> None:
        """Close every connection and forget every channel and group; all are opened again when needed."""
        self.channels.clear()
        self.groups.clear()
        await self.broker.close()


class _Shard:
    """What channels_redis calls a shard's connection; the broker finds the server by itself."""

    def __init__(self, broker: Broker) -> None:
        self.subscribe = broker.subscribe
        self.unsubscribe = broker.leave


def _do_nothing() -> None:
    """Servers of a fixed list come back where they were."""
