"""Heals hubs: finds entries of lost broadcasts by the gaps in serials, and reads them from Postgres once a process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping

from rooms import faults
from rooms.database import threads
from rooms.fanout.hub import Hub
from rooms.faults import POSTGRES_AWAY
from rooms.log import directory, reading
from rooms.log.reading import CATCH_UP_MESSAGES

logger = logging.getLogger(__name__)

HOLE_GRACE_SECONDS = 0.05  # broadcasts of two processes may cross; entries missing for longer were lost


class Healer:
    """Reads the missing entries of one gateway's hubs."""

    def __init__(self, hubs: Mapping[int, Hub]) -> None:
        self.healed = 0  # entries that no broadcast brought, for the metrics
        self._hubs = hubs
        self._watched: set[Hub] = set()  # hubs with a hole that may fill by itself
        self._healing: set[Hub] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def note_head(self, hub: Hub, head: int) -> None:
        """Note that a room's log reaches to `head`. Entries that do not arrive in a moment are read."""
        hub.tail.note_head(head)
        if hub.tail.has_hole and hub not in self._watched:
            self._watched.add(hub)
            asyncio.get_running_loop().call_later(HOLE_GRACE_SECONDS, self._heal_if_stuck, hub, hub.tail.position)

    async def heal_all(self) -> None:
        """Compare all rooms with Postgres by one query, and read the missing entries."""
        room_ids = list(self._hubs)
        heads = await threads.run(reading.read_heads, room_ids) if room_ids else {}
        await self._restore(set(room_ids) - heads.keys())
        for room_id, head in heads.items():
            hub = self._hubs.get(room_id)
            if hub is not None:
                hub.tail.note_head(head)
                if hub.tail.has_hole:
                    await self._heal(hub)

    async def _restore(self, gone: Iterable[int]) -> None:
        """Make rooms again that were removed as unused while members are here, as after a crash of Postgres."""
        for room_id in gone:
            hub = self._hubs.get(room_id)
            if hub is not None and hub.members and hub.room.may_go and not hub.tail.position:
                await threads.run(directory.make_again, hub.room)

    def close(self) -> None:
        """Stop reading."""
        for task in self._tasks:
            task.cancel()

    def _heal_if_stuck(self, hub: Hub, position: int) -> None:
        self._watched.discard(hub)
        if not hub.tail.has_hole or hub.is_closed:
            return
        if hub.tail.position > position:  # that hole was filled; the new one gets its own grace
            self.note_head(hub, hub.tail.known_head)
            return
        task = asyncio.create_task(self._heal(hub), name="heal hub")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _heal(self, hub: Hub) -> None:
        if hub in self._healing:
            return  # the running task goes on until there is no hole
        self._healing.add(hub)
        try:
            await self._fill_holes(hub)
        finally:
            self._healing.discard(hub)

    async def _fill_holes(self, hub: Hub) -> None:
        while hub.tail.has_hole and not hub.is_closed:
            before = hub.tail.position
            try:
                entries, reaches = await threads.run(reading.read_after, hub.room, before, CATCH_UP_MESSAGES)
            except POSTGRES_AWAY as error:
                logger.warning("healing waits for Postgres (%s)", type(error).__name__)
                return
            except Exception:
                faults.record("healing")
                return
            if hub.tail.position == before:
                self.healed += len(entries)
            hub.fill(entries, reaches)
            if hub.tail.position == before:
                return
