"""The slots of a Redis Cluster: which node has which slot, read from any node."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError

from chatsite.channel_layer.addresses import Address

logger = logging.getLogger(__name__)

HostPort = tuple[str, int]  # host and port


class Slots:
    """The addresses of the primaries by slot. Empty until a node was asked."""

    def __init__(self, places: Mapping[int, HostPort] | None = None) -> None:
        self._places = places or {}

    def place_of(self, channel: str) -> HostPort | None:
        """Return the address of the node that has a channel's slot, None if no known node has it."""
        return self._places.get(key_slot(channel.encode()))

    def places(self) -> set[HostPort]:
        """Return the addresses of all primaries that have slots."""
        return set(self._places.values())


async def ask(address: Address, *, timeout: float) -> Slots:
    """Ask one node for the slots. Raises redis.RedisError, OSError or TimeoutError."""
    async with asyncio.timeout(timeout):
        connection = await address.connect(timeout=timeout)
        try:
            await connection.send_command("CLUSTER", "SLOTS", check_health=False)
            return Slots(read(await connection.read_response(disable_decoding=True), asked=address.host))
        finally:
            await connection.disconnect(nowait=True)


async def ask_any(addresses: Sequence[Address], *, timeout: float) -> Slots:
    """Ask nodes until one answers: the next as soon as one fails, or a little later, so that all are asked in time.

    Raises redis.ConnectionError when all fail, or none has answered after `timeout` seconds.
    """
    patience = timeout / (2 * len(addresses))
    asked: set[asyncio.Task[Slots]] = set()
    try:
        for address in addresses:
            asked.add(asyncio.create_task(ask(address, timeout=timeout), name="redis cluster question"))
            if (slots := await _first_answer(asked, patience)) is not None:
                return slots
        while asked:
            if (slots := await _first_answer(asked, timeout)) is not None:
                return slots
        raise RedisConnectionError("no node tells the slots")
    finally:
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


async def _first_answer(asked: set[asyncio.Task[Slots]], patience: float) -> Slots | None:
    """Return the first answer within `patience` seconds, None if there is none. Tasks that have ended are taken out."""
    done, _ = await asyncio.wait(asked, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
    asked -= done
    answer: Slots | None = None
    for task in done:
        if (error := task.exception()) is None:
            answer = task.result()
        else:
            logger.debug("a node of the cluster does not tell the slots (%s)", type(error).__name__)
    return answer


def read(reply: Any, *, asked: str) -> dict[int, HostPort]:
    """Read an answer to CLUSTER SLOTS. A node that does not know its own name is the one that was asked."""
    places: dict[int, HostPort] = {}
    for first, last, primary, *_ in reply:
        host = (primary[0] or b"").decode()
        place = (asked if host in ("", "?") else host, int(primary[1]))
        places.update(dict.fromkeys(range(int(first), int(last) + 1), place))
    return places
