"""Where a member starts to read: after the serial it names, a rewind, or from now on.

All members of a lost gateway come back at once and ask the same: a question to Postgres is asked once for all of
them, and its answer holds for a second.
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
    """After which serial to read (None: from now on), whether that resumes, and what went wrong."""

    after: int | None
    resumed: bool = False
    error: ChatError | None = None


class StartingPoints:
    """Finds the starting points of one gateway's members."""

    def __init__(self, heard: Callable[[Hub, int], None]) -> None:
        self.questions = 0  # put to Postgres, for the metrics
        self._heard = heard  # told how far a room reaches where its hub does not know yet
        self._answers: dict[tuple[Any, ...], tuple[float, asyncio.Task[int]]] = {}

    async def find(self, request: ProtocolMessage, hub: Hub, grant: Grant) -> StartingPoint:
        """Return where an ATTACH starts. Raises ChatError 40000 for a rewind that is none."""
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
            return await self._ask(("oldest", hub.room.id), ANSWER_SECONDS, read_oldest, hub.room) <= after
        changed_at = missed[0].wire.version and missed[0].wire.version.timestamp if missed else None
        return not missed or (changed_at or missed[0].wire.timestamp or 0) >= milliseconds(limit)

    async def _reaches(self, hub: Hub, serial: int) -> bool:
        """Return whether a room has that serial. Another gateway may have been faster than the hub to hear of it."""
        for _ in range(2):  # a question that was under way may be older than the serial; the next one is not
            if serial <= max(hub.tail.position, hub.tail.heard):
                return True
            self._heard(hub, await self._ask(("head", hub.room.id), 0.0, read_head, hub.room))
        return serial <= hub.tail.heard

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
        return await self._ask(key, ANSWER_SECONDS, read_rewind, hub.room, number, ago if unit else None)

    async def _ask(self, key: tuple[Any, ...], seconds: float, question: Callable[..., int], *args: Any) -> int:
        """Ask Postgres, or share the answer to the same question if it is under way or that young."""
        now = asyncio.get_running_loop().time()
        known = self._answers.get(key)
        if known is None or (known[1].done() and (now >= known[0] or known[1].exception() is not None)):
            self._forget_old(now)
            self.questions += 1
            task = asyncio.create_task(threads.repeat(question, *args), name="starting point")
            known = self._answers[key] = (now + seconds, task)
        return await asyncio.shield(known[1])

    def _forget_old(self, now: float) -> None:
        if len(self._answers) >= KEPT_ANSWERS:
            self._answers = {
                key: known for key, known in self._answers.items() if not known[1].done() or now < known[0]
            }


def _lost(text: str) -> StartingPoint:
    return StartingPoint(None, error=ChatError(Code.CONTINUITY_LOST, text))


def read_head(room: RoomRef) -> int:
    """Return how far a room reaches."""
    return reading.read_heads([room.id]).get(room.id, 0)


def read_oldest(room: RoomRef) -> int:
    """Return the serial from which on a token without the operation history may resume."""
    limit = timedelta(seconds=settings.RESUME_SECONDS_WITHOUT_HISTORY)
    return reading.read_before_time(room, timezone.now() - limit, after=0)


def read_rewind(room: RoomRef, count: int, ago: timedelta | None) -> int:
    """Return the serial after which the last messages come: so many, or those of a time (bounded in number too)."""
    oldest = reading.read_last(room, REWIND_MAX_MESSAGES)
    if ago is None:
        return max(oldest, reading.read_last(room, count))
    return reading.read_before_time(room, timezone.now() - ago, after=oldest)
