"""From many publishers to few transactions: the async door of rooms.publishing.accept, one per process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice

from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.utils import timezone

from rooms.database import threads
from rooms.errors import ChatError, Code
from rooms.log.content import Draft, size_of
from rooms.log.outcomes import Outcome, OutcomeKind
from rooms.publishing.accept import accept
from rooms.publishing.batcher import Batcher, Full
from rooms.publishing.pending_outcomes import Verdicts

logger = logging.getLogger(__name__)

FIRST_RETRY_SECONDS = 0.05
LONGEST_RETRY_SECONDS = 1.0
BUSY_ROOM_SECONDS = 0.002  # from here on writing to a room's members costs more than accepting a message

Publish = Sequence[Draft]  # what one client sent at once; one transaction takes it whole
Final = asyncio.Future[list[Outcome]]


class Acceptor:
    """Accepts publishes in batches and tells what became of each message, after its review."""

    def __init__(
        self,
        room_gone: Callable[[str], None] = lambda name: None,
        fan_out_seconds: Callable[[int], float] = lambda room_id: 0.0,
    ) -> None:
        self.verdicts = Verdicts()
        self._room_gone = room_gone
        self._fan_out_seconds = fan_out_seconds  # of a room, by its primary key: how long writing to all members takes
        self.accepted = 0  # messages; this and the next three for the metrics
        self.batches = 0
        self.refused = 0  # publishes, because too much waited
        self.seconds = 0.0  # in transactions, with the waits for threads and locks
        self.waiting_bytes = 0  # of content that waits for its transaction, or is in it
        self._thread = threads.SingleThread("accept")
        self._batcher: Batcher[Publish, list[Outcome]] = Batcher(
            self._accept,
            max_batch=settings.ACCEPT_BATCH_MESSAGES,
            max_waiting=settings.ACCEPT_QUEUE_MESSAGES,
            pause=settings.ACCEPT_PAUSE_SECONDS,
            rest=self._rest_after,
        )

    @property
    def waiting(self) -> int:
        """How many drafts wait for their transaction."""
        return self._batcher.waiting

    def submit(self, drafts: Publish) -> Final:
        """Queue the drafts of one publish: the future ends with the final outcome of each, in order, or ChatError.

        PENDING only where patience ran out. Raises ChatError 42910 and queues none where too much waits already.
        """
        size = sum(size_of(draft.content) for draft in drafts)
        try:
            if self.waiting_bytes and self.waiting_bytes + size > settings.ACCEPT_QUEUE_BYTES:
                raise Full
            # Where the members of the room are still being written to, a message waits here as well as there.
            is_busy = bool(drafts) and self._fan_out_seconds(drafts[0].room_id) >= BUSY_ROOM_SECONDS
            accepted = self._batcher.submit(drafts, weight=len(drafts), urgent=not is_busy)
        except Full:
            self.refused += 1
            raise ChatError(Code.TOO_MANY_PUBLISHES, "The server is busy; publish again in a moment.") from None
        final: Final = asyncio.get_running_loop().create_future()
        self.waiting_bytes += size
        accepted.add_done_callback(partial(self._accepted, final, size))
        return final

    def _rest_after(self, publishes: Sequence[Publish]) -> float:
        """Return for how long (seconds) nothing that follows this batch in its rooms could be written to members."""
        rooms = {draft.room_id for publish in publishes for draft in publish}
        fan_out = sum(map(self._fan_out_seconds, rooms)) * settings.ACCEPT_REST_SHARE
        return min(fan_out, settings.ACCEPT_REST_SECONDS) if fan_out >= BUSY_ROOM_SECONDS else 0.0

    async def close(self) -> None:
        """Wait until everything queued is durable or refused. The caller bounds the wait."""
        try:
            await self._batcher.close()
        finally:
            self._thread.close()

    def _accepted(self, final: Final, size: int, accepted: Final) -> None:
        self.waiting_bytes -= size
        if final.done():
            accepted.cancelled() or accepted.exception()
        elif accepted.cancelled():
            final.cancel()
        elif (error := accepted.exception()) is not None:
            final.set_exception(error)
        else:
            self.verdicts.settle(accepted.result(), final)

    async def _accept(self, publishes: Sequence[Publish]) -> Sequence[list[Outcome]]:
        """Accept a batch. While Postgres is away it is tried again: ids make a repeat harmless."""
        loop = asyncio.get_running_loop()
        give_up, pause = loop.time() + settings.ACCEPT_RETRY_SECONDS, FIRST_RETRY_SECONDS
        drafts = [draft for publish in publishes for draft in publish]
        while True:
            began = loop.time()
            try:
                outcomes = await self._thread.run(accept, drafts, now=timezone.now())
            except (OperationalError, InterfaceError) as error:
                if loop.time() > give_up:
                    logger.error("%d publishes refused: Postgres is away (%s)", len(publishes), type(error).__name__)
                    raise ChatError(
                        Code.UNAVAILABLE, "The message could not be stored; publish it again.", status=503
                    ) from None
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_RETRY_SECONDS)
            except Exception as error:
                return await self._halve(publishes, error)
            else:
                self._count(drafts, outcomes, loop.time() - began)
                each: Iterator[Outcome] = iter(outcomes)
                return [list(islice(each, len(publish))) for publish in publishes]

    async def _halve(self, publishes: Sequence[Publish], error: Exception) -> Sequence[list[Outcome]]:
        """A publish that no transaction takes must not take the others of its batch with it."""
        if len(publishes) == 1:
            logger.error("a publish failed (%s)", type(error).__name__, exc_info=error)
            failed = ChatError(Code.INTERNAL, "The message could not be stored.")
            return [[Outcome(kind=OutcomeKind.REJECTED, message=0, error=failed)] * len(publishes[0])]
        middle = len(publishes) // 2
        return [*await self._accept(publishes[:middle]), *await self._accept(publishes[middle:])]

    def _count(self, drafts: Sequence[Draft], outcomes: Sequence[Outcome], seconds: float) -> None:
        self.accepted += len(outcomes)
        self.batches += 1
        self.seconds += seconds
        for draft, outcome in zip(drafts, outcomes, strict=True):
            if outcome.error is not None and outcome.error.code == Code.NOT_FOUND:
                self._room_gone(draft.room)
