"""Publishes on one server: many messages in one round trip."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from chatsite.channel_layer.addresses import Address

CHUNK_MESSAGES = 1000
CHUNK_BYTES = 4_194_304  # of messages in one round trip, which one timeout covers

Publication = tuple[str, bytes]  # a Redis channel's name, and the message for it


class Publisher:
    """One connection, opened when it is first needed and again after it failed."""

    def __init__(self, address: Address, *, command: str, timeout: float) -> None:
        self._address = address
        self._command = command
        self._timeout = timeout
        self._lock = asyncio.Lock()
        self._connection: AbstractConnection | None = None

    async def publish(self, messages: Sequence[Publication]) -> list[ResponseError | None]:
        """Publish messages in order and return for each the server's refusal, None where it took the message.

        Raises redis.ConnectionError, redis.TimeoutError or TimeoutError; some may have gone out then. A connection
        that turns out to have died is replaced once: a message that is published twice does no harm.
        """
        async with self._lock:
            answers: list[ResponseError | None] = []
            for chunk in _chunks(messages):
                was_open = self._connection is not None
                try:
                    answers += await self._round_trip(chunk)
                except (RedisConnectionError, OSError):
                    if not was_open:
                        raise
                    answers += await self._round_trip(chunk)
            return answers

    async def close(self) -> None:
        """Close the connection; the next publish opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)

    async def _round_trip(self, messages: Sequence[Publication]) -> list[ResponseError | None]:
        try:
            async with asyncio.timeout(self._timeout):
                if self._connection is None:
                    self._connection = await self._address.connect(timeout=self._timeout)
                packed = self._connection.pack_commands((self._command, *message) for message in messages)
                await self._connection.send_packed_command(packed, check_health=False)
                return [await _refusal(self._connection) for _ in messages]
        except BaseException:
            # Answers that are still on their way would be taken for those of the next commands.
            await self.close()
            raise


async def _refusal(connection: AbstractConnection) -> ResponseError | None:
    try:
        await connection.read_response(disable_decoding=True)
    except ResponseError as error:
        return error
    return None


def _chunks(messages: Sequence[Publication]) -> Iterator[list[Publication]]:
    chunk: list[Publication] = []
    size = 0
    for message in messages:
        if chunk and (len(chunk) == CHUNK_MESSAGES or size + len(message[1]) > CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(message)
        size += len(message[1])
    if chunk:
        yield chunk
