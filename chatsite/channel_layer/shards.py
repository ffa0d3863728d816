"""Redis servers that do not know each other and share the rooms by a hash of their names; usually there is only one."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Protocol

from chatsite.channel_layer.addresses import Address
from chatsite.channel_layer.library_internals import place_on_ring
from chatsite.channel_layer.node import Links, Node
from chatsite.channel_layer.publisher import Publication


class Broker(Protocol):
    """Publishes to Redis channels, and subscribes to them, by their names: on separate servers or on a cluster."""

    @property
    def reconnects(self) -> int:
        """How often a subscriber's connection had to be opened again."""

    def lane(self, channel: str) -> Hashable:
        """Return a mark of the server that carries a channel: channels with the same mark fail and hang together."""

    async def publish(self, messages: Sequence[Publication]) -> None:
        """Publish messages in order, in one round trip a server. Raises when one of them did not get through."""

    async def subscribe(self, channel: str) -> None:
        """Subscribe to a channel until `leave`; returns once the server confirmed it. The caller bounds the wait."""

    async def leave(self, channel: str) -> None:
        """End the subscription to a channel."""

    async def close(self) -> None:
        """Close everything and forget all subscriptions."""


class Shards:
    """A Broker on a fixed list of servers. Processes with different lists miss broadcasts, and read Postgres."""

    def __init__(self, addresses: Sequence[Address], links: Links) -> None:
        self._nodes = [Node(address, replace(links, sharded=False)) for address in addresses]

    @property
    def reconnects(self) -> int:
        return sum(node.subscriber.reconnects for node in self._nodes)

    def lane(self, channel: str) -> Hashable:
        """See Broker."""
        return str(self._node(channel).address)

    async def publish(self, messages: Sequence[Publication]) -> None:
        """See Broker."""
        by_node: dict[Node, list[Publication]] = {}
        for message in messages:
            by_node.setdefault(self._node(message[0]), []).append(message)
        sending = [node.publisher.publish(of_node) for node, of_node in by_node.items()]
        answers = await asyncio.gather(*sending, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
            for refusal in answer:
                if refusal is not None:
                    raise refusal

    async def subscribe(self, channel: str) -> None:
        """See Broker."""
        await self._node(channel).subscriber.subscribe(channel)

    async def leave(self, channel: str) -> None:
        """See Broker."""
        await self._node(channel).subscriber.leave([channel])

    async def close(self) -> None:
        """See Broker."""
        for node in self._nodes:
            await node.close()

    def _node(self, channel: str) -> Node:
        return self._nodes[place_on_ring(channel, len(self._nodes))]
