"""Queues publishes into rooms whose lock another transaction holds for long, in a line for each room.

All publishes of a gateway are accepted in shared transactions, which take the locks of their rooms. One lock that is
not released (by a transaction that hangs, or in an administrator's console) would delay all of them. So the acceptor
moves publishes into a room that was locked for longer than LOCK_SECONDS here. They keep their order: all later ones
join the line until it is empty, and only then the room takes part in shared transactions again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence

from django.conf import settings

from rooms.database.threads import SingleThread
from rooms.errors import ChatError, Code
from rooms.log.content import size_of
from rooms.log.outcomes import Outcome
from rooms.publishing.accept import ACCEPT_BATCH_MESSAGES
from rooms.publishing.drafts import Publish
from rooms.publishing.pending_outcomes import FinalOutcomes

logger = logging.getLogger(__name__)

LOCK_SECONDS = 1.0  # gateways that write to one room hold its lock for milliseconds, an overloaded one for tenths
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 2.0, 4.0  # for the lock, in a room's own line
MAX_THREADS = 2  # threads that wait for locks, each with a connection; further rooms take turns
SHARE = 0.25  # of the acceptor's limits that may wait here: the other rooms need the rest

Transact = Callable[[Sequence[Publish], SingleThread, float], Awaitable[Sequence[list[Outcome]]]]


class RoomsLocked(Exception):
    """A lock of a transaction's rooms was not free in the time that the transaction may wait for it."""


class WaitingPublish:
    """A publish in a line, with the time at which it is refused and the future of its outcomes."""

    __slots__ = ("final", "give_up", "publish", "size")

    def __init__(self, publish: Publish, give_up: float, final: FinalOutcomes) -> None:
        self.publish = publish
        self.give_up = give_up
        self.final = final
        self.size = sum(size_of(draft.content) for draft in publish)


class StuckRooms:
    """The lines of a gateway's stuck rooms, bounded together in messages, bytes, threads and time."""

    def __init__(self, transact: Transact) -> None:
        self.waiting = 0  # messages
        self._waiting_bytes = 0
        self.refused = 0  # publishes, for the metrics
        self._transact = transact
        self._lines: dict[int, deque[WaitingPublish]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(MAX_THREADS)
        self._idle_threads: list[SingleThread] = []

    def __len__(self) -> int:
        return len(self._lines)

    def __contains__(self, room_id: int) -> bool:
        return room_id in self._lines

    def open(self, rooms: Iterable[int]) -> None:
        """Open lines for rooms. The caller adds their publishes at once."""
        for room_id in rooms:
            logger.warning("room %d is locked by another transaction; publishes into it wait by themselves", room_id)
            self._lines[room_id] = deque()
            task = asyncio.create_task(self._serve(room_id), name="stuck room")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def add(self, publish: Publish) -> FinalOutcomes:
        """Put a publish at the end of its room's line. Return the future of its outcomes."""
        loop = asyncio.get_running_loop()
        final: FinalOutcomes = loop.create_future()
        waiting = WaitingPublish(publish, loop.time() + settings.ACCEPT_RETRY_SECONDS, final)
        if self._has_space(waiting):
            self._count(waiting, 1)
            self._lines[publish[0].room_id].append(waiting)
        else:
            self._refuse(final, Code.TOO_MANY_PUBLISHES, "Too much waits for this room; publish again in a moment.")
        return final

    def _has_space(self, waiting: WaitingPublish) -> bool:
        messages, size = self.waiting + len(waiting.publish), self._waiting_bytes + waiting.size
        is_within = messages <= settings.ACCEPT_QUEUE_MESSAGES * SHARE and size <= settings.ACCEPT_QUEUE_BYTES * SHARE
        # A line takes its first publish in any case: an empty line ends, and the room would delay all others again.
        return is_within or not self._lines[waiting.publish[0].room_id]

    async def close(self) -> None:
        """Wait until everything in the lines is stored or refused. The caller bounds the wait."""
        try:
            while self._tasks:
                await asyncio.wait(self._tasks)
        finally:
            for thread in self._idle_threads:
                thread.close()

    async def _serve(self, room_id: int) -> None:
        """Accept the publishes of a room's line, one transaction after the other, until the line is empty."""
        line, patience = self._lines[room_id], FIRST_WAIT_SECONDS
        try:
            while line:
                patience = patience if await self._accept_first(line, patience) else patience * 2
                patience = min(patience, LONGEST_WAIT_SECONDS)
                self._refuse_late(line)
        finally:
            # No await since the line was found empty: no publish can have joined it.
            del self._lines[room_id]
            for waiting in line:  # this task was cancelled: the process ends
                self._count(waiting, -1)
                waiting.final.cancel()

    async def _accept_first(self, line: deque[WaitingPublish], patience: float) -> bool:
        """Accept the first publishes of a line together. Return False if the room's lock was not free in time."""
        try:
            async with asyncio.timeout_at(line[0].give_up):
                await self._slots.acquire()
        except TimeoutError:  # other stuck rooms have all the threads
            return False
        thread = self._idle_threads.pop() if self._idle_threads else SingleThread("stuck room")
        taken = _first_of(line)
        left = taken[0].give_up - asyncio.get_running_loop().time()
        try:
            publishes = [waiting.publish for waiting in taken]
            outcomes = await self._transact(publishes, thread, min(patience, max(left, LOCK_SECONDS)))
        except RoomsLocked:
            return False
        except ChatError as error:
            for waiting in self._leave(line, taken):
                waiting.final.set_exception(error)
        else:
            for waiting, result in zip(self._leave(line, taken), outcomes, strict=True):
                waiting.final.set_result(result)
        finally:
            self._idle_threads.append(thread)
            self._slots.release()
        return True

    def _leave(self, line: deque[WaitingPublish], taken: Sequence[WaitingPublish]) -> Sequence[WaitingPublish]:
        for _ in taken:
            self._count(line.popleft(), -1)
        return taken

    def _refuse_late(self, line: deque[WaitingPublish]) -> None:
        now = asyncio.get_running_loop().time()
        while line and line[0].give_up <= now:
            (waiting,) = self._leave(line, [line[0]])
            self._refuse(waiting.final, Code.TIMEOUT, "The room is locked for too long; publish the message again.")

    def _refuse(self, final: FinalOutcomes, code: Code, text: str) -> None:
        self.refused += 1
        final.set_exception(ChatError(code, text, status=503 if code is Code.TIMEOUT else None))

    def _count(self, waiting: WaitingPublish, sign: int) -> None:
        self.waiting += sign * len(waiting.publish)
        self._waiting_bytes += sign * waiting.size


def _first_of(line: deque[WaitingPublish]) -> list[WaitingPublish]:
    """Return the first publishes of a line that fit into one transaction; at least one."""
    taken: list[WaitingPublish] = []
    messages = 0
    for waiting in line:
        messages += len(waiting.publish)
        if taken and messages > ACCEPT_BATCH_MESSAGES:
            break
        taken.append(waiting)
    return taken
