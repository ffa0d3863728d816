"""Results for stuck rooms: verdicts wait here for rooms that another transaction keeps locked, and delay no other's.

The recorder stores all results of a moment in one transaction, which takes the locks of their rooms. One lock that is
not given up would keep all of them waiting. So what needs a room that was locked for longer than LOCK_SECONDS is moved
here, and all later results for that room follow. They are stored on a thread of their own once the room is free; when
nothing waits for it any more, the room takes part in shared transactions again.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace

from django.conf import settings

from integrations.outbox.conclusions import Conclusion
from integrations.worker.caller import FinishedCall
from rooms.database.patience import is_lock_timeout
from rooms.faults import POSTGRES_AWAY

logger = logging.getLogger(__name__)

STUCK = 16  # times DELIVERY_CONCURRENCY: so many results may wait for stuck rooms
REST_SECONDS = 0.2


class StuckResults:
    """The results of one worker that wait for stuck rooms, bounded in number. `run` until `finish`.

    `store` stores results together, on a thread that nobody else uses. `find_locked` says which of some rooms are
    locked. `back` takes results that cannot be stored for another reason than a lock.
    """

    def __init__(
        self,
        *,
        store: Callable[[Sequence[FinishedCall]], Awaitable[object]],
        find_locked: Callable[[Collection[int]], Awaitable[set[int]]],
        back: Callable[[FinishedCall], None],
    ) -> None:
        self.dropped = 0
        self._store = store
        self._find_locked = find_locked
        self._back = back
        self._lines: dict[int, list[FinishedCall]] = {}  # by room
        self._has_some = asyncio.Event()
        self._is_ending = False

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    async def divide(self, part: Sequence[FinishedCall]) -> Sequence[FinishedCall] | None:
        """Keep those results whose rooms are locked now, and return the others; None if no room is known to be locked.

        All later results for these rooms are for `keep`, until nothing waits for them any more.
        """
        rooms = {one.delivery.room_id for done in part for one in done.report.conclusions if locks_room(one)}
        try:
            locked = await self._find_locked(rooms)
        except (*POSTGRES_AWAY, TimeoutError):
            return None
        for room_id in locked:
            logger.warning("room %d is locked by another transaction; verdicts on its messages wait", room_id)
            self._lines.setdefault(room_id, [])
        self._has_some.set()
        return self.keep(part) if locked else None

    def keep(self, part: Sequence[FinishedCall]) -> Sequence[FinishedCall]:
        """Keep what needs a stuck room, and return the rest. A call for several rooms is divided."""
        if not self._lines:
            return part
        rest: list[FinishedCall] = []
        for done in part:
            free: list[Conclusion] = []
            stuck: dict[int, list[Conclusion]] = defaultdict(list)
            for one in done.report.conclusions:
                is_stuck = locks_room(one) and one.delivery.room_id in self._lines
                (stuck[one.delivery.room_id] if is_stuck else free).append(one)
            for room_id, conclusions in stuck.items():
                self._keep(room_id, _share_of(done, conclusions))
            if free or not stuck:
                rest.append(_share_of(done, free))
        return rest

    def finish(self) -> None:
        """Let `run` end after one more try. What it does not store is called again when the leases run out."""
        self._is_ending = True
        self._has_some.set()

    async def run(self) -> None:
        """Store what waits, whenever its rooms are free."""
        while True:
            await self._has_some.wait()
            self._has_some.clear()
            is_last = self._is_ending
            while self._lines:
                await self._store_free()
                if is_last:
                    break
                await asyncio.sleep(REST_SECONDS)
                is_last = self._is_ending
            if self._is_ending:
                return

    def _keep(self, room_id: int, done: FinishedCall) -> None:
        if len(self) < settings.DELIVERY_CONCURRENCY * STUCK:
            self._lines[room_id].append(done)
        else:  # its lease runs out and the call is repeated, or the deadline decides
            self.dropped += 1
            logger.warning("Too many results wait for locked rooms; one for room %d is dropped.", room_id)

    async def _store_free(self) -> None:
        try:
            locked = await self._find_locked(list(self._lines))
        except (*POSTGRES_AWAY, TimeoutError) as error:
            logger.warning("%d results for locked rooms wait for Postgres (%s).", len(self), type(error).__name__)
            return
        await self._store_lines([room_id for room_id in self._lines if room_id not in locked])
        if locked:
            # A room that is written without a pause is locked whenever one looks: wait a moment for one of them.
            await self._store_lines([random.choice(sorted(locked))])

    async def _store_lines(self, rooms: Sequence[int]) -> None:
        taken = {room_id: list(self._lines[room_id]) for room_id in rooms}
        part = [done for line in taken.values() for done in line]
        failed: Sequence[FinishedCall] = ()
        try:
            if part:
                await self._store(part)
        except (*POSTGRES_AWAY, TimeoutError) as error:
            if not is_lock_timeout(error):
                logger.warning("%d results for locked rooms wait for Postgres (%s).", len(part), type(error).__name__)
            return
        except Exception:
            logger.warning("%d results for rooms that were locked are tried with all others.", len(part), exc_info=True)
            failed = part
        for room_id, line in taken.items():
            del self._lines[room_id][: len(line)]  # more may have come meanwhile
            if not self._lines[room_id]:
                del self._lines[room_id]
        for done in failed:
            self._back(done)


def locks_room(one: Conclusion) -> bool:
    """Return whether storing a conclusion decides a message, which takes the lock of its room."""
    return one.delivery.message_id is not None and (one.fall_back or one.verdict is not None)


def _share_of(done: FinishedCall, conclusions: Sequence[Conclusion]) -> FinishedCall:
    """Return the result of a call for some of its deliveries."""
    if len(conclusions) == len(done.report.conclusions):
        return done
    return replace(done, report=replace(done.report, conclusions=conclusions, carried=done.report.events))
