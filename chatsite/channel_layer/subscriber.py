"""Subscriptions on one server: one connection, which is opened again by itself and subscribes to all channels again."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Collection, Iterable
from itertools import islice

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from chatsite.channel_layer.addresses import Address
from rooms import faults
from rooms.faults import REDIS_AWAY

logger = logging.getLogger(__name__)

TICK_SECONDS = 0.5  # between two attempts for channels that the server refused or ended
PING_SECONDS = 3.0  # a silent server is asked for a sign of life
SILENCE_SECONDS = 8.0  # one that gives none is left
BACKOFF_SECONDS = (0.05, 1.0)
CHUNK_CHANNELS = 500

Deliver = Callable[[str, bytes], None]


class Subscriber:
    """The channels of one server to which this process wants to be subscribed, and the connection for them.

    `on_trouble` is called when the connection is lost or the server refuses or ends a subscription: in a cluster
    that may mean that the channel has moved. Waiting for a subscription is bounded by the caller.
    """

    def __init__(
        self, address: Address, *, sharded: bool, timeout: float, deliver: Deliver, on_trouble: Callable[[], None]
    ) -> None:
        self.reconnects = 0
        self._address = address
        self._subscribe, self._unsubscribe = ("SSUBSCRIBE", "SUNSUBSCRIBE") if sharded else ("SUBSCRIBE", "UNSUBSCRIBE")
        self._message = b"smessage" if sharded else b"message"
        self._subscribed, self._unsubscribed = self._subscribe.lower().encode(), self._unsubscribe.lower().encode()
        self._one_a_command = sharded  # channels of one command would have to share a slot
        self._timeout = timeout
        self._deliver = deliver
        self._on_trouble = on_trouble
        self._wanted: set[str] = set()
        self._confirmed: set[str] = set()
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._connection: AbstractConnection | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_refused = False  # so that it is told once, not twice a second

    async def subscribe(self, channel: str) -> None:
        """Subscribe to a channel and wait until the server confirms it. It stays wanted if the wait is cancelled.

        Raises redis.ConnectionError when the channel is left meanwhile.
        """
        await self.want([channel])
        if channel not in self._confirmed:
            waiting = self._waiting.setdefault(channel, asyncio.get_running_loop().create_future())
            await asyncio.shield(waiting)

    async def want(self, channels: Iterable[str]) -> None:
        """Subscribe to channels without waiting for the server to confirm it."""
        new = [channel for channel in channels if channel not in self._wanted]
        self._wanted.update(new)
        if self._task is None:
            self._task = asyncio.create_task(self._stay_connected(), name="redis subscriber")
        await self._ask(self._subscribe, new)

    async def leave(self, channels: Collection[str]) -> None:
        """Unsubscribe from channels."""
        self._wanted.difference_update(channels)
        self._confirmed.difference_update(channels)
        for channel in channels:
            if (waiting := self._waiting.pop(channel, None)) is not None and not waiting.done():
                waiting.set_exception(RedisConnectionError("the subscription was given up"))
                waiting.exception()  # retrieved here: the waiting task may be gone
        await self._ask(self._unsubscribe, channels)

    async def close(self) -> None:
        """Close the connection and forget all channels."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        await self.leave(list(self._wanted))

    async def _ask(self, command: str, channels: Iterable[str]) -> None:
        """Send a command for these channels, if there is a connection: a new one subscribes to all of them anyway."""
        connection = self._connection
        remaining = iter(channels)
        while connection is not None and connection.is_connected:
            # One write for many commands: in a cluster each channel takes a command of its own.
            names = list(islice(remaining, CHUNK_CHANNELS))
            if not names:
                return
            commands = [(command, name) for name in names] if self._one_a_command else [(command, *names)]
            try:
                async with asyncio.timeout(self._timeout):
                    await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
            except (RedisError, OSError, TimeoutError):
                return  # the connection is closed now, which the listener notices

    async def _stay_connected(self) -> None:
        pause, longest = BACKOFF_SECONDS
        is_away = False
        while True:
            try:
                connection = await self._address.connect(timeout=self._timeout)
                if is_away:
                    logger.warning("Redis at %s is back", self._address)
                is_away, pause = False, BACKOFF_SECONDS[0]
                await self._listen(connection)
            except REDIS_AWAY as error:
                if not is_away:
                    name = type(error).__name__
                    logger.warning("Redis at %s is away (%s); hubs heal from Postgres", self._address, name)
                is_away = True
            except Exception:  # no other task would notice that this one has ended
                faults.record("redis subscriber")
            self.reconnects += 1
            self._on_trouble()
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, longest)

    async def _listen(self, connection: AbstractConnection) -> None:
        """Handle replies until the connection fails, and close it. Raises the error that ended it."""
        self._connection = connection
        try:
            await self._ask(self._subscribe, list(self._wanted))
            await self._handle_all(connection)
        finally:
            self._connection = None
            self._confirmed.clear()
            await connection.disconnect(nowait=True)

    async def _handle_all(self, connection: AbstractConnection) -> None:
        clock = asyncio.get_running_loop().time
        heard = next_tick = clock()
        while True:
            reply = await self._read(connection)
            now = clock()
            if reply is not None:
                heard = now
                self._handle(reply)
            elif now - heard > SILENCE_SECONDS:
                raise RedisConnectionError("no sign of life")
            if now >= next_tick:
                next_tick = now + TICK_SECONDS
                await self._ask(self._subscribe, self._wanted - self._confirmed)
                if now - heard > PING_SECONDS:
                    async with asyncio.timeout(self._timeout):
                        await connection.send_command("PING", check_health=False)

    async def _read(self, connection: AbstractConnection) -> object:
        """Return the next reply, or None when there is none for a while."""
        try:
            return await connection.read_response(disable_decoding=True, timeout=TICK_SECONDS)
        except ResponseError as error:
            if not self._is_refused:
                logger.warning("Redis at %s refuses a subscription (%s)", self._address, type(error).__name__)
            self._is_refused = True
            self._on_trouble()
            return error

    def _handle(self, reply: object) -> None:
        if not isinstance(reply, list) or len(reply) != 3:
            return  # PONG
        kind, name, data = reply
        if kind == self._message:
            self._deliver(name.decode(), data)
        elif kind == self._subscribed:
            self._confirm(name.decode())
        elif kind == self._unsubscribed and name is not None and (channel := name.decode()) in self._wanted:
            # The slot has moved (or we left and came back: then the confirmation follows).
            self._confirmed.discard(channel)
            self._on_trouble()

    def _confirm(self, channel: str) -> None:
        if channel not in self._wanted:
            return
        self._confirmed.add(channel)
        self._is_refused = False
        if (waiting := self._waiting.pop(channel, None)) is not None and not waiting.done():
            waiting.set_result(None)
