"""Finds the serial after which a member starts to read: its own when it resumes, that of a rewind, or the newest.

All members of a lost gateway come back at once with the same queries: each query is executed once for all of them,
and its result is used for a second.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone

from rooms.access.grants import Grant
from rooms.database import threads
from rooms.errors import ChatError, Code
from rooms.fanout.hub import Hub
from rooms.log import reading
from rooms.log.directory import RoomRef
from rooms.log.rows import milliseconds
from rooms.protocol import serials
from rooms.protocol.wire import ProtocolMessage

REWIND = re.compile(r"(\d{1,4})([sm]?)")
REWIND_MAX_MESSAGES = 100
REWIND_MAX = timedelta(minutes=120)
ANSWER_SECONDS = 1.0
KEPT_ANSWERS = 1000


@dataclass(frozen=True, slots=True)
class StartingPoint:
    """The serial after which to read (None: only new entries), whether that resumes, and the error if it cannot."""

    after: int | None
    resumed: bool = False
    error: ChatError | None = None


class StartingPoints:
    """Finds the starting points of one gateway's members."""

    def __init__(self, note_head: Callable[[Hub, int], None]) -> None:
        self.questions = 0  # queries of Postgres, for the metrics
        self._note_head = note_head  # called with a room's head that its hub may not know yet
        self._results: dict[tuple[Any, ...], tuple[float, asyncio.Task[int]]] = {}

    async def find(self, request: ProtocolMessage, hub: Hub, grant: Grant) -> StartingPoint:
        """Return the starting point of an ATTACH. Raises ChatError 40003 for an invalid rewind."""
        if request.channel_serial:
            return await self._resume(request.channel_serial, hub, grant)
        rewind = (request.params or {}).get("rewind")
        return StartingPoint(await self._rewind(hub, rewind) if rewind else None)

    async def _resume(self, channel_serial: str, hub: Hub, grant: Grant) -> StartingPoint:
        decoded = serials.decode(channel_serial)
        if decoded is None or decoded[0] != hub.room.epoch or not await self._reaches(hub, decoded[1]):
            return _lost("The serial to resume from is not one of this room; read what is missing from history.")
        after = decoded[1]
        if not grant.capability.allows(hub.room.name, "history") and not await self._is_recent(hub, after):
            return _lost("This token may not read history, and what was missed is too old to be resumed.")
        return StartingPoint(after, resumed=True)

    async def _is_recent(self, hub: Hub, after: int) -> bool:
        """Return whether the entries after a serial are as recent as a resume without the right to history needs."""
        limit = timezone.now() - timedelta(seconds=settings.RESUME_SECONDS_WITHOUT_HISTORY)
        missed = hub.tail.after(after, max_bytes=0)
        if missed is None:
            return await self._query(("oldest", hub.room.id), ANSWER_SECONDS, read_oldest, hub.room) <= after
        changed_at = missed[0].wire.version and missed[0].wire.version.timestamp if missed else None
        return not missed or (changed_at or missed[0].wire.timestamp or 0) >= milliseconds(limit)

    async def _reaches(self, hub: Hub, serial: int) -> bool:
        """Return whether a room's log has reached a serial. The hub may know it later than another gateway."""
        for _ in range(2):  # a query that was under way may be older than the serial; the next one is not
            if serial <= max(hub.tail.position, hub.tail.known_head):
                return True
            self._note_head(hub, await self._query(("head", hub.room.id), 0.0, read_head, hub.room))
        return serial <= hub.tail.known_head

    async def _rewind(self, hub: Hub, rewind: str) -> int:
        match = REWIND.fullmatch(rewind)
        if match is None:
            raise ChatError(
                Code.INVALID_PARAMETER, 'The parameter rewind is a count such as "10" or a time such as "2m".'
            )
        number, unit = int(match[1]), match[2]
        in_memory = None if unit else hub.tail.start_of_last(min(number, REWIND_MAX_MESSAGES))
        if in_memory is not None:
            return in_memory
        ago = min(timedelta(seconds=number) if unit == "s" else timedelta(minutes=number), REWIND_MAX)
        key = ("rewind", hub.room.id, number, unit)
        return await self._query(key, ANSWER_SECONDS, read_rewind, hub.room, number, ago if unit else None)

    async def _query(self, key: tuple[Any, ...], seconds: float, query: Callable[..., int], *args: Any) -> int:
        """Execute a query, or share its result if it is under way or younger than `seconds`."""
        now = asyncio.get_running_loop().time()
        known = self._results.get(key)
        if known is None or (known[1].done() and (now >= known[0] or known[1].exception() is not None)):
            self._forget_old(now)
            self.questions += 1
            task = asyncio.create_task(threads.repeat(query, *args), name="starting point")
            known = self._results[key] = (now + seconds, task)
        return await asyncio.shield(known[1])

    def _forget_old(self, now: float) -> None:
        if len(self._results) >= KEPT_ANSWERS:
            self._results = {
                key: known for key, known in self._results.items() if not known[1].done() or now < known[0]
            }


def _lost(text: str) -> StartingPoint:
    return StartingPoint(None, error=ChatError(Code.CONTINUITY_LOST, text))


def read_head(room: RoomRef) -> int:
    """Return the head of a room."""
    return reading.read_heads([room.id]).get(room.id, 0)


def read_oldest(room: RoomRef) -> int:
    """Return the serial from which on a token without the operation history may resume."""
    limit = timedelta(seconds=settings.RESUME_SECONDS_WITHOUT_HISTORY)
    return reading.read_before_time(room, timezone.now() - limit, after=0)


def read_rewind(room: RoomRef, count: int, ago: timedelta | None) -> int:
    """Return the serial before the last `count` messages, or before those of the time `ago`; bounded in number."""
    oldest = reading.read_last(room, REWIND_MAX_MESSAGES)
    if ago is None:
        return max(oldest, reading.read_last(room, count))
    return reading.read_before_time(room, timezone.now() - ago, after=oldest)
