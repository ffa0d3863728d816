"""Holds the hubs, the acceptor and the tasks that all connections of a process share. One per event loop.

A gateway has one channel. That channel is a member of the Channels group of each room that has members here, and the
address to which the outcomes of messages are sent whose authors wait here.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Sequence
from typing import Any, NoReturn

import msgspec
from channels.layers import get_channel_layer
from django.conf import settings

from rooms import faults
from rooms.database import threads
from rooms.errors import ChatError, Code
from rooms.fanout.frames import FrameCache
from rooms.fanout.healing import Healer
from rooms.fanout.hub import Hub, Resources
from rooms.fanout.memory import Memory
from rooms.fanout.passes import Passes
from rooms.fanout.reader import Reader
from rooms.faults import REDIS_AWAY
from rooms.gateway.connections import CONNECTION_MAX_IDLE_SECONDS, Connections
from rooms.gateway.rounds import every
from rooms.gateway.starting_points import StartingPoints
from rooms.log import announce, directory, reading
from rooms.log.announce import Announcer, GatewayOutcome
from rooms.log.directory import Directory, RoomRef
from rooms.log.entries import Entry, unpack
from rooms.log.outcomes import Outcome, OutcomeKind, SentOutcome
from rooms.log.reading import CATCH_UP_MESSAGES
from rooms.occupancy import unused_rooms
from rooms.occupancy.heartbeat import BEAT_SECONDS, GatewayOccupancy
from rooms.publishing.acceptor import Acceptor
from rooms.review.deadlines import expire

logger = logging.getLogger(__name__)

ROOM_MEMORY_BYTES = 4_194_304  # of one room's tail: 64 of the largest messages
BATCHES_MEMORY_BYTES = 16_777_216  # encoded frames that members share while they catch up: 1,024 of their writes
HUB_PRELOAD_MESSAGES = 100  # the end of a room that its first member here most likely asks for
HUB_PAUSE_SECONDS = 1.0  # the longest pause between two passes, however large the room
HUB_SLICE_SECONDS = 0.002  # of passes in one turn of the loop, for which other work waits
HUB_HEAL_SECONDS = 2.0  # between two comparisons with Postgres: how late a member gets what a broadcast lost
CATCH_UP_CONCURRENCY = 4  # half of a process' database threads: accepting needs the others

EARLY_MAX_ENTRIES = 1000  # kept for a hub that opens; further ones are read from Postgres
EMPTY_HUB_SECONDS = 30.0  # before an empty hub is closed: the last member may come back
EXPIRE_SECONDS = 2.0  # the worker does it sooner; this is for when there is none
REVOKED_SECONDS = 0.5
SWEEP_SECONDS = 20.0


class Gateway:
    """The hubs, acceptor and announcer of one process, and the few tasks that serve all its connections."""

    def __init__(self) -> None:
        self.server_id = secrets.token_hex(4)
        self.channel = ""  # known once connected to Redis
        self.hubs: dict[int, Hub] = {}
        self.healer = Healer(self.hubs)
        self.directory = Directory(has_waiting_members=self._has_waiting_members)
        self.acceptor = Acceptor(make_again=self.directory.make_again, fan_out_seconds=self._fan_out_seconds)
        self.passes = Passes(slice_seconds=HUB_SLICE_SECONDS)
        self.reader = Reader(self.passes, limit=CATCH_UP_MESSAGES, concurrency=CATCH_UP_CONCURRENCY)
        self.memory = Memory(max_bytes=settings.ROOMS_MEMORY_BYTES)
        self.batches = FrameCache(max_bytes=BATCHES_MEMORY_BYTES)
        self._resources = Resources(
            passes=self.passes,
            reader=self.reader,
            memory=self.memory,
            batches=self.batches,
            room_memory_bytes=ROOM_MEMORY_BYTES,
            pause_share=settings.HUB_PAUSE_SHARE,
            pause_seconds=HUB_PAUSE_SECONDS,
        )
        self.starting_points = StartingPoints(note_head=self.healer.note_head)
        self.occupancy = GatewayOccupancy(self.server_id)
        self.announcer = Announcer(asyncio.get_running_loop(), self._committed_here, origin=self.server_id)
        self.connections = Connections(idle_seconds=CONNECTION_MAX_IDLE_SECONDS)
        self.delivered = 0  # by hubs that are closed
        self.swept = 0  # rooms that were removed as unused
        self._layer: Any = get_channel_layer()
        self._connected = asyncio.Event()
        self._opening: dict[int, asyncio.Task[Hub]] = {}
        self._early: dict[int, list[Entry]] = {}  # broadcast while a hub was opening
        self._empty_since: dict[int, float] = {}
        announce.bind(self.announcer)
        self._tasks = [
            asyncio.create_task(self._receive(), name="gateway channel"),
            asyncio.create_task(every(HUB_HEAL_SECONDS, self.healer.heal_all), name="heal"),
            asyncio.create_task(every(HUB_HEAL_SECONDS, self._tend_hubs), name="tend hubs"),
            asyncio.create_task(every(1.0, self.acceptor.pending.poll), name="verdicts"),
            asyncio.create_task(every(REVOKED_SECONDS, self.connections.end_revoked), name="revoked"),
            asyncio.create_task(every(EXPIRE_SECONDS, self._expire), name="expire"),
            asyncio.create_task(every(SWEEP_SECONDS, self._sweep), name="sweep"),
            asyncio.create_task(self.connections.keep_alive(), name="keep alive"),
            asyncio.create_task(every(BEAT_SECONDS, self._report), name="occupancy"),
        ]

    async def close(self) -> None:
        """Finish accepted publishes and stop. The caller bounds the wait."""
        await self.acceptor.close()
        await self.announcer.close()
        self.reader.close()
        self.passes.close()
        self.healer.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.occupancy.close()
        announce.bind(None)

    # --- Hubs --------------------------------------------------------------------------------------------

    async def hub(self, room: RoomRef) -> Hub:
        """Return the room's hub, subscribed and at the log's head."""
        hub = self.hubs.get(room.id)
        if hub is not None and room.may_go and not hub.members:
            # It has no members, so the room might be removed while this one enters.
            await self._hold(room)
            hub = self.hubs.get(room.id)
        if hub is not None:
            # The caller's member is about to join: the hub must not be closed while the caller reads from Postgres.
            self._empty_since.pop(room.id, None)
            return hub
        task = self._opening.get(room.id)
        if task is None:
            task = self._opening[room.id] = asyncio.create_task(self._open(room), name="open hub")
        return await asyncio.shield(task)

    async def _open(self, room: RoomRef) -> Hub:
        try:
            # Subscribe first and read the head then: messages published between the two arrive by broadcast.
            self._early[room.id] = []
            subscribed = await self._subscribe(room.id)
            if room.may_go:
                await self._hold(room)
            # With the last entries: members that come back to a new gateway have seldom missed more.
            end = await threads.repeat(reading.read_end, room, HUB_PRELOAD_MESSAGES)
            if end is None:
                self._miss(room)
            entries, after, head = end
            hub = Hub(room, self._resources, position=after)
            hub.fill(entries, head)
            hub.subscribed = subscribed
            self.hubs[room.id] = hub
            hub.receive(self._early[room.id])  # some of them may be among those from Postgres
            self.healer.note_head(hub, hub.tail.known_head)
            return hub
        finally:
            del self._early[room.id], self._opening[room.id]
            if room.id not in self.hubs and self.channel:
                await self._redis(self._layer.group_discard(announce.group_of(room.id), self.channel))

    async def _hold(self, room: RoomRef) -> None:
        """Keep a room from being removed while a client enters it. Raises ChatError 40400 if it is gone."""
        if not await threads.repeat(directory.hold, room.id):
            self._miss(room)

    def _miss(self, room: RoomRef) -> NoReturn:
        """Forget a room that is gone. Its hub has no members, and closes as others do."""
        self.directory.forget(room.name)
        raise ChatError(Code.NOT_FOUND, "The room was deleted a moment ago; attach again.")

    async def _subscribe(self, room_id: int) -> bool:
        try:
            async with asyncio.timeout(settings.REDIS_TIMEOUT_SECONDS):
                await self._connected.wait()
        except TimeoutError:
            return False
        return await self._redis(self._layer.group_add(announce.group_of(room_id), self.channel))

    async def _close_empty_hubs(self) -> None:
        now = asyncio.get_running_loop().time()
        for room_id, hub in list(self.hubs.items()):
            if hub.members:
                self._empty_since.pop(room_id, None)
            elif now - self._empty_since.setdefault(room_id, now) > EMPTY_HUB_SECONDS:
                self.delivered += hub.delivered
                hub.close()
                del self.hubs[room_id], self._empty_since[room_id]
                group = announce.group_of(room_id)
                if self.channel and not await self._redis(self._layer.group_discard(group, self.channel)):
                    return

    def _has_waiting_members(self, room_id: int) -> bool:
        hub = self.hubs.get(room_id)
        return hub is not None and hub.members > 0 and not hub.tail.known_head

    def _fan_out_seconds(self, room_id: int) -> float:
        hub = self.hubs.get(room_id)
        return hub.pass_seconds if hub is not None and hub.members else 0.0

    # --- What was committed ------------------------------------------------------------------------------

    def _committed_here(self, entries: Sequence[Entry], outcomes: Sequence[GatewayOutcome]) -> None:
        self._receive_entries(entries)
        self.acceptor.pending.resolve(outcome for gateway, outcome in outcomes if gateway == self.channel)

    def _receive_entries(self, entries: Sequence[Entry]) -> None:
        by_room: dict[int, list[Entry]] = {}
        for entry in entries:
            by_room.setdefault(entry.room_id, []).append(entry)
        for room_id, of_room in by_room.items():
            hub = self.hubs.get(room_id)
            if hub is not None:
                self._deliver(hub, of_room)
            elif room_id in self._early and len(self._early[room_id]) < EARLY_MAX_ENTRIES:
                self._early[room_id] += of_room

    def _deliver(self, hub: Hub, entries: Sequence[Entry]) -> None:
        try:
            hub.receive(entries)
            self.healer.note_head(hub, hub.tail.known_head)
        except Exception:  # a fault in one room is not the others'
            faults.record("hub taking entries")

    async def _receive(self) -> None:
        """Receive the broadcasts of other processes. While Redis is away they are lost, and the hubs heal."""
        is_foreign = False  # so that it is logged once
        while True:
            try:
                message = await self._next_message()
            except REDIS_AWAY as error:
                logger.warning("waiting for Redis (%s)", type(error).__name__)
                await asyncio.sleep(1.0)
                continue
            except Exception:
                faults.record("receiving broadcasts")
                await asyncio.sleep(1.0)
                continue
            try:
                self._handle(message)
            except msgspec.DecodeError as error:
                if not is_foreign:
                    # Another host runs another version, for the minutes of an update: the hubs heal.
                    logger.warning("a broadcast cannot be read (%s); is a host on another version?", error)
                is_foreign = True
            except Exception:
                faults.record("handling a broadcast")

    async def _next_message(self) -> dict[str, Any]:
        if not self.channel:
            async with asyncio.timeout(settings.REDIS_TIMEOUT_SECONDS):
                self.channel = await self._layer.new_channel("gateway.")
            self._connected.set()
        message: dict[str, Any] = await self._layer.receive(self.channel)
        return message

    def _handle(self, message: dict[str, Any]) -> None:
        if message["type"] == "room.published":
            if message.get("origin") != self.server_id:  # our own were received when they were committed
                self._receive_entries(unpack(message["entries"]))
        elif message["type"] == "message.decided":
            sent = msgspec.msgpack.decode(message["news"], type=list[SentOutcome])
            self.acceptor.pending.resolve(map(_outcome_of, sent))

    # --- Tending -----------------------------------------------------------------------------------------

    async def _tend_hubs(self) -> None:
        """Subscribe hubs that could not be, and close empty ones. Apart from healing, which a Redis that hangs
        must not hold back."""
        for room_id, hub in list(self.hubs.items()):
            if not hub.subscribed:
                hub.subscribed = await self._subscribe(room_id)
                if not hub.subscribed:
                    return  # Redis is away; the others would wait as long
        await self._close_empty_hubs()

    # --- Tasks for all connections together --------------------------------------------------------------

    async def _report(self) -> None:
        await self.occupancy.beat(len(self.connections))

    async def _sweep(self) -> None:
        self.swept += await threads.run(unused_rooms.sweep)

    async def _expire(self) -> None:
        await threads.run(expire)

    async def _redis(self, sending: Awaitable[Any]) -> bool:
        try:
            async with asyncio.timeout(settings.REDIS_TIMEOUT_SECONDS):
                await sending
        except REDIS_AWAY as error:
            logger.warning("Redis is away (%s); the hubs heal from Postgres", type(error).__name__)
            return False
        except Exception:
            faults.record("subscribing")
            return False
        return True


def _outcome_of(sent: SentOutcome) -> Outcome:
    error = None if sent.code is None else ChatError(sent.code, sent.reason, detail=sent.detail)
    return Outcome(kind=OutcomeKind(sent.kind), message=sent.message, serial=sent.serial, error=error)


_gateways: dict[asyncio.AbstractEventLoop, Gateway] = {}


def current() -> Gateway:
    """Return the gateway of the running loop, made at its first use (ASGI has no start event for us)."""
    loop = asyncio.get_running_loop()
    gateway = _gateways.get(loop)
    if gateway is None:
        for closed in [known for known in _gateways if known.is_closed()]:
            del _gateways[closed]
        gateway = _gateways[loop] = Gateway()
    return gateway
