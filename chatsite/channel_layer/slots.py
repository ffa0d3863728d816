"""Which node of a Redis Cluster has which slot, as one of its nodes tells."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from redis.crc import key_slot

from chatsite.channel_layer.addresses import Address

Place = tuple[str, int]  # host and port


class Slots:
    """The places of the primaries by slot. Empty until a node was asked."""

    def __init__(self, places: Mapping[int, Place] | None = None) -> None:
        self._places = places or {}

    def place_of(self, channel: str) -> Place | None:
        """Return the place of a channel's slot; None where nobody has it, as far as is known."""
        return self._places.get(key_slot(channel.encode()))

    def places(self) -> set[Place]:
        """Return the places of all primaries that have slots."""
        return set(self._places.values())


async def ask(address: Address, *, timeout: float) -> Slots:
    """Ask one node for the slots. Raises what went wrong, TimeoutError included."""
    async with asyncio.timeout(timeout):
        connection = await address.connect(timeout=timeout)
        try:
            await connection.send_command("CLUSTER", "SLOTS", check_health=False)
            return Slots(read(await connection.read_response(disable_decoding=True), asked=address.host))
        finally:
            await connection.disconnect(nowait=True)


def read(reply: Any, *, asked: str) -> dict[int, Place]:
    """Read an answer to CLUSTER SLOTS. A node that does not know its own name is the one that was asked."""
    places: dict[int, Place] = {}
    for first, last, primary, *_ in reply:
        host = (primary[0] or b"").decode()
        place = (asked if host in ("", "?") else host, int(primary[1]))
        places.update(dict.fromkeys(range(int(first), int(last) + 1), place))
    return places
