"""Gathers the publishes of a process into few transactions of rooms.publishing.accept."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from functools import partial
from itertools import islice

from django.conf import settings
from django.utils import timezone
from msgspec.structs import replace

from rooms import faults
from rooms.database import threads
from rooms.database.patience import is_lock_timeout
from rooms.errors import ChatError, Code
from rooms.faults import POSTGRES_AWAY
from rooms.log import room_locks
from rooms.log.content import Draft, size_of
from rooms.log.directory import RoomRef
from rooms.log.outcomes import Outcome, OutcomeKind
from rooms.publishing.accept import ACCEPT_BATCH_MESSAGES, accept
from rooms.publishing.batcher import Batcher, Full
from rooms.publishing.drafts import Publish
from rooms.publishing.pending_outcomes import FinalOutcomes, PendingOutcomes
from rooms.publishing.stuck_rooms import LOCK_SECONDS, RoomsLocked, StuckRooms

logger = logging.getLogger(__name__)

ACCEPT_PAUSE_SECONDS = 0.005  # the longest pause between two transactions under load, so that drafts gather
ACCEPT_REST_SECONDS = 0.02  # the longest rest while a large room is being written to; bounds ACCEPT_REST_SHARE

FIRST_RETRY_SECONDS = 0.05
LONGEST_RETRY_SECONDS = 1.0
BUSY_ROOM_SECONDS = 0.002  # a room whose pass takes longer: a pass costs more than accepting a message

Accepted = list[Outcome] | FinalOutcomes  # outcomes, or their future if the room is stuck


class Acceptor:
    """Accepts publishes in batches, and returns the outcomes of their messages after their reviews."""

    def __init__(
        self,
        make_again: Callable[[str], Awaitable[RoomRef]] | None = None,
        fan_out_seconds: Callable[[int], float] = lambda room_id: 0.0,
    ) -> None:
        self.pending = PendingOutcomes()
        self._make_again = make_again  # makes a room that is gone again, by its name
        self._fan_out_seconds = fan_out_seconds  # the duration of a room's last pass, by its primary key
        self.accepted = 0  # messages; this and the next three for the metrics
        self.batches = 0
        self.refused = 0  # publishes, because too much waited
        self.seconds = 0.0  # in transactions, with the waits for threads and locks
        self.waiting_bytes = 0  # of content that waits for its transaction, or is in it
        self.stuck = StuckRooms(self._transact)
        self._thread = threads.SingleThread("accept")
        self._batcher: Batcher[Publish, Accepted] = Batcher(
            self._accept,
            max_batch=ACCEPT_BATCH_MESSAGES,
            max_waiting=settings.ACCEPT_QUEUE_MESSAGES,
            pause=ACCEPT_PAUSE_SECONDS,
            rest=self._rest_after,
        )

    @property
    def waiting(self) -> int:
        """The number of drafts that wait for their transaction."""
        return self._batcher.waiting

    def submit(self, drafts: Publish) -> FinalOutcomes:
        """Queue the drafts of one publish. Return the future of their final outcomes, in order, or of a ChatError.

        An outcome is PENDING only if its review took longer than ACK_PATIENCE_SECONDS. Raises ChatError 42910 if too
        much waits already; then no draft is queued.
        """
        size = sum(size_of(draft.content) for draft in drafts)
        try:
            if self.waiting_bytes and self.waiting_bytes + size > settings.ACCEPT_QUEUE_BYTES:
                raise Full
            # A message for a busy room would wait for the room's pass anyway, so it may as well gather with others.
            is_busy = bool(drafts) and self._fan_out_seconds(drafts[0].room_id) >= BUSY_ROOM_SECONDS
            accepted = self._batcher.submit(drafts, weight=len(drafts), urgent=not is_busy)
        except Full:
            self.refused += 1
            raise ChatError(Code.TOO_MANY_PUBLISHES, "The server is busy; publish again in a moment.") from None
        final: FinalOutcomes = asyncio.get_running_loop().create_future()
        self.waiting_bytes += size
        accepted.add_done_callback(partial(self._accepted, final, size))
        return final

    def _rest_after(self, publishes: Sequence[Publish]) -> float:
        """Return the seconds to rest after a batch, as long as its rooms are busy writing it to their members."""
        rooms = {draft.room_id for publish in publishes for draft in publish}
        fan_out = sum(map(self._fan_out_seconds, rooms)) * settings.ACCEPT_REST_SHARE
        return min(fan_out, ACCEPT_REST_SECONDS) if fan_out >= BUSY_ROOM_SECONDS else 0.0

    async def close(self) -> None:
        """Wait until everything queued is stored or refused. The caller bounds the wait."""
        try:
            await self._batcher.close()
            await self.stuck.close()
        finally:
            self._thread.close()

    def _accepted(self, final: FinalOutcomes, size: int, accepted: asyncio.Future[Accepted]) -> None:
        error = None if accepted.cancelled() else accepted.exception()
        result = None if accepted.cancelled() or error is not None else accepted.result()
        if isinstance(result, asyncio.Future):
            result.add_done_callback(partial(self._accepted, final, size))
            return
        self.waiting_bytes -= size
        if final.done():
            return
        if error is not None:
            final.set_exception(error)
        elif result is None:
            final.cancel()
        else:
            self.pending.finish(result, final)

    async def _accept(self, publishes: Sequence[Publish]) -> Sequence[Accepted]:
        """Accept a batch. Publishes into stuck rooms leave it, in order; their results are futures."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + settings.ACCEPT_RETRY_SECONDS
        answers: dict[int, Accepted] = {}
        while True:
            for place, publish in enumerate(publishes):
                if place not in answers and publish and publish[0].room_id in self.stuck:
                    answers[place] = self.stuck.add(publish)
            left = [place for place in range(len(publishes)) if place not in answers]
            rest = [publishes[place] for place in left]
            try:
                outcomes = await self._transact(rest, self._thread, LOCK_SECONDS)
            except RoomsLocked:
                locked = await self._find_locked(rest)
                self.stuck.open(locked)
                if locked or loop.time() < give_up:
                    continue
                answers |= dict.fromkeys(left, _failed(_not_stored()))
            except ChatError as error:
                answers |= dict.fromkeys(left, _failed(error))
            else:
                answers |= zip(left, outcomes, strict=True)
            return [answers[place] for place in range(len(publishes))]

    async def _transact(
        self, publishes: Sequence[Publish], thread: threads.SingleThread, lock_seconds: float
    ) -> Sequence[list[Outcome]]:
        """Accept publishes in one transaction. Retry while Postgres is away: message ids make a repeat harmless.

        Raises RoomsLocked if a lock was not free within `lock_seconds`.
        """
        loop = asyncio.get_running_loop()
        give_up, pause = loop.time() + settings.ACCEPT_RETRY_SECONDS, FIRST_RETRY_SECONDS
        drafts = [draft for publish in publishes for draft in publish]
        may_make_again = True
        while drafts:
            began = loop.time()
            try:
                outcomes = await thread.run(accept, drafts, now=timezone.now(), lock_seconds=lock_seconds)
            except POSTGRES_AWAY as error:
                if is_lock_timeout(error):
                    raise RoomsLocked from None
                if loop.time() > give_up:
                    logger.error("%d publishes refused: Postgres is away (%s)", len(publishes), type(error).__name__)
                    raise _not_stored() from None
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_RETRY_SECONDS)
            except Exception as error:
                return await self._halve(publishes, thread, lock_seconds, error)
            else:
                gone = {draft.room for draft, outcome in zip(drafts, outcomes, strict=True) if _is_gone(outcome)}
                if gone and may_make_again:
                    drafts, may_make_again = await self._move(drafts, gone), False
                    continue
                self._count(outcomes, loop.time() - began)
                each: Iterator[Outcome] = iter(outcomes)
                return [list(islice(each, len(publish))) for publish in publishes]
        return [[] for _ in publishes]

    async def _halve(
        self, publishes: Sequence[Publish], thread: threads.SingleThread, lock_seconds: float, error: Exception
    ) -> Sequence[list[Outcome]]:
        """Accept each half of a batch by itself, until the publish that makes the transaction fail stands alone."""
        if len(publishes) == 1:
            faults.record("accepting a publish", error)
            failed = ChatError(Code.INTERNAL, "The message could not be stored.")
            return [[Outcome(kind=OutcomeKind.REJECTED, message=0, error=failed)] * len(publishes[0])]
        middle = len(publishes) // 2
        halves = publishes[:middle], publishes[middle:]
        return [outcomes for half in halves for outcomes in await self._transact(half, thread, lock_seconds)]

    async def _find_locked(self, publishes: Sequence[Publish]) -> set[int]:
        """Return the rooms of publishes that another transaction has locked; none if Postgres is away."""
        rooms = {draft.room_id for publish in publishes for draft in publish}
        try:
            return await self._thread.run(room_locks.find_locked, rooms)
        except POSTGRES_AWAY:
            return set()

    async def _move(self, drafts: Sequence[Draft], gone: Collection[str]) -> list[Draft]:
        """Return drafts for the same rooms, after those that are gone were made again."""
        if self._make_again is None:
            return list(drafts)
        try:
            rooms = {name: await self._make_again(name) for name in sorted(gone)}
        except POSTGRES_AWAY:
            return list(drafts)
        return [replace(draft, room_id=rooms[draft.room].id) if draft.room in rooms else draft for draft in drafts]

    def _count(self, outcomes: Sequence[Outcome], seconds: float) -> None:
        self.accepted += len(outcomes)
        self.batches += 1
        self.seconds += seconds


def _is_gone(outcome: Outcome) -> bool:
    return outcome.error is not None and outcome.error.code == Code.NOT_FOUND


def _not_stored() -> ChatError:
    return ChatError(Code.UNAVAILABLE, "The message could not be stored; publish it again.", status=503)


def _failed(error: ChatError) -> FinalOutcomes:
    failed: FinalOutcomes = asyncio.get_running_loop().create_future()
    failed.set_exception(error)
    return failed
