"""Reading the log from Postgres for members that were away: one query however many ask for the same place."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from rooms import database, queries
from rooms.directory import RoomRef
from rooms.log import Entry

logger = logging.getLogger(__name__)

RETRY_SECONDS = 1.0  # while Postgres is away; the asking members wait, and cost nothing meanwhile

Found = tuple[Sequence[Entry], int]  # entries, and how far they reach
Callback = Callable[[Found], None]


class Reader:
    """Bounded catch-up reads of one gateway. Askers of one (room, serial) share one read."""

    def __init__(self, *, limit: int, concurrency: int) -> None:
        self.reads = 0  # for the metrics
        self._limit = limit
        self._slots = asyncio.Semaphore(concurrency)
        self._asked: dict[tuple[int, int], list[Callback]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def read(self, room: RoomRef, after: int, callback: Callback) -> None:
        """Call back with the room's entries after a serial. Callbacks of members that left do nothing."""
        asked = self._asked.setdefault((room.id, after), [])
        asked.append(callback)
        if len(asked) == 1:
            task = asyncio.create_task(self._read(room, after), name="reader")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Stop reading; nobody is called back."""
        for task in self._tasks:
            task.cancel()

    async def _read(self, room: RoomRef, after: int) -> None:
        async with self._slots:
            found = await self._try_until_read(room, after)
        for callback in self._asked.pop((room.id, after)):
            try:
                callback(found)
            except Exception:
                logger.exception("a member could not be caught up")

    async def _try_until_read(self, room: RoomRef, after: int) -> Found:
        while True:
            try:
                self.reads += 1
                return await database.run(queries.read_after, room, after, self._limit)
            except Exception as error:
                logger.warning("catching up waits for Postgres (%s)", type(error).__name__)
                await asyncio.sleep(RETRY_SECONDS)
