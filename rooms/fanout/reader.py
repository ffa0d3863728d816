"""Reads the log from Postgres for members that were away: one read of a room at a time, shared by all of them."""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from rooms import faults
from rooms.database import threads
from rooms.fanout.passes import Passes
from rooms.faults import POSTGRES_AWAY
from rooms.log import reading
from rooms.log.directory import RoomRef
from rooms.log.entries import Entry, serial_of

logger = logging.getLogger(__name__)

RETRY_SECONDS = 1.0  # while Postgres is away; the members wait, and cost nothing meanwhile
STEP_MEMBERS = 64

LogPage = tuple[Sequence[Entry], int]  # entries, and the serial up to which they are complete
Callback = Callable[[LogPage], None]
CatchUp = tuple[int, Callback]  # a member's last serial, and the callback for the entries after it


class Reader:
    """The catch-up reads of one gateway, bounded in number. Requests that come during a room's read share the next."""

    def __init__(self, passes: Passes, *, limit: int, concurrency: int) -> None:
        self.reads = 0  # for the metrics
        self._passes = passes
        self._limit = limit
        self._slots = asyncio.Semaphore(concurrency)
        self._waiting: dict[int, list[CatchUp]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def read(self, room: RoomRef, after: int, callback: Callback) -> None:
        """Read a room's entries after a serial, and call back with them. Callbacks of members that left do nothing."""
        waiting = self._waiting.get(room.id)
        if waiting is not None:
            waiting.append((after, callback))
            return
        self._waiting[room.id] = [(after, callback)]
        task = asyncio.create_task(self._serve(room), name="reader")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Stop reading; nobody is called back."""
        for task in self._tasks:
            task.cancel()

    async def _serve(self, room: RoomRef) -> None:
        try:
            while waiting := self._waiting[room.id]:
                self._waiting[room.id] = []
                await self._answer(room, deque(sorted(waiting, key=_after_of)))
        finally:
            del self._waiting[room.id]

    async def _answer(self, room: RoomRef, waiting: deque[CatchUp]) -> None:
        """Read from the lowest serial; the page also serves all members whose serials lie inside it."""
        while waiting:
            after = waiting[0][0]
            entries, reaches = await self._try_until_read(room, after)
            served = [waiting.popleft()]
            while waiting and (waiting[0][0] < reaches or waiting[0][0] == after):
                served.append(waiting.popleft())
            await self._passes.run(_answer_in_steps(served, entries, reaches))

    async def _try_until_read(self, room: RoomRef, after: int) -> LogPage:
        while True:
            try:
                # A slot is held for one attempt: a room that cannot be read keeps no other from being read.
                async with self._slots:
                    self.reads += 1
                    return await threads.run(reading.read_after, room, after, self._limit)
            except POSTGRES_AWAY as error:
                logger.warning("catching up waits for Postgres (%s)", type(error).__name__)
            except Exception:
                faults.record("reading what members missed")
            await asyncio.sleep(RETRY_SECONDS)


def _answer_in_steps(served: Sequence[CatchUp], entries: Sequence[Entry], reaches: int) -> Iterator[None]:
    """Call back with each member's entries, a few members in each step: thousands may have come back at once."""
    part, part_after = entries, served[0][0]
    for place, (after, callback) in enumerate(served):
        if place % STEP_MEMBERS == STEP_MEMBERS - 1:
            yield
        if after != part_after:
            part, part_after = entries[bisect_right(entries, after, key=serial_of) :], after
        try:
            callback((part, reaches))
        except Exception:
            faults.record("catching a member up")


def _after_of(catch_up: CatchUp) -> int:
    return catch_up[0]
