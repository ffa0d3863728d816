"""Reading the log from Postgres for members that were away: one read at a time of a room, however many ask."""

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

RETRY_SECONDS = 1.0  # while Postgres is away; the asking members wait, and cost nothing meanwhile
STEP_MEMBERS = 64

LogPage = tuple[Sequence[Entry], int]  # entries, and how far they reach
Callback = Callable[[LogPage], None]
Question = tuple[int, Callback]  # after which serial, and whom to tell


class Reader:
    """Bounded catch-up reads of one gateway. Who asks while a room is read shares the next read."""

    def __init__(self, passes: Passes, *, limit: int, concurrency: int) -> None:
        self.reads = 0  # for the metrics
        self._passes = passes
        self._limit = limit
        self._slots = asyncio.Semaphore(concurrency)
        self._asked: dict[int, list[Question]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def read(self, room: RoomRef, after: int, callback: Callback) -> None:
        """Call back with the room's entries after a serial. Callbacks of members that left do nothing."""
        asked = self._asked.get(room.id)
        if asked is not None:
            asked.append((after, callback))
            return
        self._asked[room.id] = [(after, callback)]
        task = asyncio.create_task(self._serve(room), name="reader")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Stop reading; nobody is called back."""
        for task in self._tasks:
            task.cancel()

    async def _serve(self, room: RoomRef) -> None:
        try:
            while asked := self._asked[room.id]:
                self._asked[room.id] = []
                await self._answer(room, deque(sorted(asked, key=_after_of)))
        finally:
            del self._asked[room.id]

    async def _answer(self, room: RoomRef, asked: deque[Question]) -> None:
        """Read from the lowest serial that is asked for; whoever asks from inside that page is served by it too."""
        while asked:
            after = asked[0][0]
            async with self._slots:
                entries, reaches = await self._try_until_read(room, after)
            served = [asked.popleft()]
            while asked and (asked[0][0] < reaches or asked[0][0] == after):
                served.append(asked.popleft())
            await self._passes.run(_answer_in_steps(served, entries, reaches))

    async def _try_until_read(self, room: RoomRef, after: int) -> LogPage:
        while True:
            try:
                self.reads += 1
                return await threads.run(reading.read_after, room, after, self._limit)
            except POSTGRES_AWAY as error:
                logger.warning("catching up waits for Postgres (%s)", type(error).__name__)
            except Exception:
                faults.record("reading what members missed")
            await asyncio.sleep(RETRY_SECONDS)


def _answer_in_steps(served: Sequence[Question], entries: Sequence[Entry], reaches: int) -> Iterator[None]:
    """Give each what it has missed, a few in each step: thousands may have come back at once."""
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


def _after_of(question: Question) -> int:
    return question[0]
