"""The Channels layer of this project: channels_redis' pub/sub layer on connections of our own.

What its own connections lack: many broadcasts in one round trip, a bound on what waits to be handled, a publish that
does not wait for subscriptions (both take one lock there), a sign of life from a silent server, and Redis Cluster.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

from chatsite.channel_layer.addresses import parse
from chatsite.channel_layer.cluster import Cluster
from chatsite.channel_layer.inbox import Inbox
from chatsite.channel_layer.library_internals import LayerOfLoop, LayerOfProcess, Shard
from chatsite.channel_layer.node import Links
from chatsite.channel_layer.shards import Broker, Shards

Addressed = tuple[str, Mapping[str, Any]]  # a group's or a channel's name, and the message


class BroadcastLayer(LayerOfProcess):
    """The channel layer of a process. Each event loop gets connections of its own, closed with the loop.

    It is a rooms.log.announce.ManyLayer too. All methods need a running loop.
    """

    def __init__(self, *, url: str, inbox_bytes: int, timeout: float, **options: Any) -> None:
        parse(url)  # refuse nonsense when the process starts, not at the first message
        super().__init__(LoopLayer, url=url, inbox_bytes=inbox_bytes, timeout=timeout, **options)

    def group_lane(self, group: str) -> Hashable:
        """Return a mark of the server that carries this group: groups with the same mark fail and hang together."""
        return self._here().group_lane(group)

    def channel_lane(self, channel: str) -> Hashable:
        """Return a mark of the server that carries this channel; see `group_lane`."""
        return self._here().channel_lane(channel)

    async def send_many(self, *, groups: Sequence[Addressed], channels: Sequence[Addressed]) -> None:
        """Send messages in order, in one round trip a server. Raises when one of them did not get through."""
        await self._here().send_many(groups=groups, channels=channels)

    def _here(self) -> LoopLayer:
        layer: LoopLayer = self.of_this_loop()
        return layer


class LoopLayer(LayerOfLoop):
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
        """How often a subscriber's connection was lost."""
        return self.broker.reconnects

    @property
    def overflowed(self) -> int:
        """Messages that inboxes dropped: they came faster than they were handled."""
        waiting: Iterable[Inbox] = self.channels.values()
        return self._overflowed + sum(inbox.dropped for inbox in waiting)

    # --- Publishing --------------------------------------------------------------------------------------

    def group_lane(self, group: str) -> Hashable:
        """See BroadcastLayer."""
        return self.broker.lane(self.group_channel(group))

    def channel_lane(self, channel: str) -> Hashable:
        """See BroadcastLayer."""
        return self.broker.lane(channel)

    async def send_many(self, *, groups: Sequence[Addressed], channels: Sequence[Addressed]) -> None:
        """See BroadcastLayer."""
        serialize = self.channel_layer.serialize
        await self.broker.publish(
            [(self.group_channel(group), serialize(message)) for group, message in groups]
            + [(channel, serialize(message)) for channel, message in channels]
        )

    async def send(self, channel: str, message: Mapping[str, Any]) -> None:
        """See the specification of channel layers."""
        await self.send_many(groups=(), channels=[(channel, message)])

    async def group_send(self, group: str, message: Mapping[str, Any]) -> None:
        """See the specification of channel layers."""
        await self.send_many(groups=[(group, message)], channels=())

    # --- Receiving ---------------------------------------------------------------------------------------

    async def open_channel(self, channel: str) -> None:
        """See LayerOfLoop."""
        self.channels[channel] = Inbox(max_bytes=self._inbox_bytes)
        try:
            await self.broker.subscribe(channel)
        except BaseException:
            # The caller never learns the channel's name, so it has to be removed here.
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

    def shard(self) -> Shard:
        """See LayerOfLoop. The broker finds the server by itself."""
        return Shard(self.broker.subscribe, self.broker.leave)

    async def flush(self) -> None:
        """Close every connection and forget every channel and group; all are opened again when needed."""
        self.channels.clear()
        self.groups.clear()
        await self.broker.close()


def _do_nothing() -> None:
    """Do nothing: servers of a fixed list come back at their old addresses."""
