"""Exchanges the counts of one gateway with the other gateways, and sends the sums to its subscribers.

One heartbeat a second does all of it, with at most two statements, however many rooms and members there are.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from django.conf import settings

from rooms import faults
from rooms.database import threads
from rooms.faults import POSTGRES_AWAY
from rooms.occupancy import store
from rooms.occupancy.counts import Counters, Metrics, total
from rooms.occupancy.subscribers import OccupancySubscribers

logger = logging.getLogger(__name__)

OCCUPANCY_ROOMS_PER_SECOND = 1000  # rooms whose counts are written and read in one beat; more take turns
OCCUPANCY_FRAMES_PER_SECOND = 4000  # sent in one beat; in larger rooms each subscriber gets the counts less often
OCCUPANCY_MAX_SUBSCRIBERS = 100_000  # subscribers of one gateway: five for each of its sockets

BEAT_SECONDS = 1.0
SETTLE_BEATS = 3  # after a pause, sums are not read until the other gateways have had time to report again
TIDY_BEATS = 20
CLOSE_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class RoomStatus:
    """A room's counts over all gateways. `room_id` is None if there is no such room."""

    room_id: int | None
    metrics: Metrics


class GatewayOccupancy:
    """One gateway's counts, subscribers and heartbeat."""

    def __init__(self, server_id: str) -> None:
        self.counters = Counters()
        self.subscribers = OccupancySubscribers(server_id, limit=OCCUPANCY_MAX_SUBSCRIBERS)
        self.missed = 0  # heartbeats that failed, for the metrics
        self._server_id = server_id
        self._gateway_id: int | None = None
        self._beats = 0
        self._last_beat: float | None = None
        self._settling = 0

    async def beat(self, connections: int) -> None:
        """Write changed counts, read those of the subscribers' rooms, and send them. Raises while Postgres is away.

        The next beat begins BEAT_SECONDS after the end of this one, so a subscriber gets counts once in that time.
        """
        now = asyncio.get_running_loop().time()
        if self._last_beat is not None and now - self._last_beat > store.ALIVE_SECONDS:
            # All gateways may have been silent, as when Postgres was away: they must not count as gone because of that.
            self._settling = SETTLE_BEATS
        try:
            await self._report(connections)
            if self._settling:
                self._settling -= 1
            else:
                await self._read()
        except Exception:
            self.missed += 1
            await self._write_to_subscribers()  # the last known counts
            raise
        self._last_beat = asyncio.get_running_loop().time()
        await self._write_to_subscribers()

    async def status(self, name: str) -> RoomStatus:
        """Return a room's counts: those of the others from Postgres, and the current ones of this gateway."""
        room_id, others = await threads.run(store.read_room, name, self._gateway_id)
        here = () if room_id is None else (self.counters.here(room_id),)
        return RoomStatus(room_id=room_id, metrics=total([others, *here]))

    async def close(self) -> None:
        """Remove this gateway from the counts. If Postgres is away, the others leave it out a few seconds later."""
        gateway_id, self._gateway_id = self._gateway_id, None
        if gateway_id is not None:
            try:
                async with asyncio.timeout(CLOSE_SECONDS):
                    await threads.run(store.unregister, gateway_id)
            except (*POSTGRES_AWAY, TimeoutError) as error:
                logger.warning("left without telling the other gateways (%s)", type(error).__name__)
            except Exception:
                faults.record("leaving the other gateways")

    async def _report(self, connections: int) -> None:
        changes = self.counters.changes(OCCUPANCY_ROOMS_PER_SECOND)
        if self._gateway_id is None or not await threads.run(store.beat, self._gateway_id, connections, changes):
            # New, or removed as dead, or Postgres has emptied the tables after a crash: all counts are written again.
            self._settling = 0 if self._gateway_id is None else SETTLE_BEATS
            self._gateway_id = await threads.run(
                store.register, self._server_id, connections_max=settings.CONNECTION_MAX_PER_GATEWAY
            )
            self.counters.write_all_again()
            changes = self.counters.changes(OCCUPANCY_ROOMS_PER_SECOND)
            await threads.run(store.beat, self._gateway_id, connections, changes)
        self.counters.written(changes)
        self._beats += 1
        if self._beats % TIDY_BEATS == 1:
            await threads.run(store.forget_silent)

    async def _read(self) -> None:
        rooms = self.subscribers.rooms(OCCUPANCY_ROOMS_PER_SECOND)
        if rooms:
            others = await threads.run(store.read_others, self._gateway_id, rooms)
            here = self.counters.here
            self.subscribers.update(
                (room_id, total([here(room_id), others[room_id]]) if room_id in others else here(room_id))
                for room_id in rooms
            )

    async def _write_to_subscribers(self) -> None:
        for _ in self.subscribers.deliver(OCCUPANCY_FRAMES_PER_SECOND):
            await asyncio.sleep(0)
