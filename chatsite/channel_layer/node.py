"""One Redis server as this process uses it: a connection to publish and one to subscribe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chatsite.channel_layer.addresses import Address
from chatsite.channel_layer.publisher import Publisher
from chatsite.channel_layer.subscriber import Deliver, Subscriber


@dataclass(frozen=True, kw_only=True)
class Links:
    """Options that the connections to all nodes have in common."""

    sharded: bool
    timeout: float
    deliver: Deliver
    on_trouble: Callable[[], None]


class Node:
    """The two connections to one server, each opened when it is first used."""

    def __init__(self, address: Address, links: Links) -> None:
        self.address = address
        self.publisher = Publisher(address, command="SPUBLISH" if links.sharded else "PUBLISH", timeout=links.timeout)
        self.subscriber = Subscriber(
            address,
            sharded=links.sharded,
            timeout=links.timeout,
            deliver=links.deliver,
            on_trouble=links.on_trouble,
        )

    async def close(self) -> None:
        """Close both connections."""
        await self.subscriber.close()
        await self.publisher.close()
