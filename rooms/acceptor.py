"""From many publishers to few transactions: the async door of rooms.accept, one per process."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.utils import timezone

from rooms import database, queries
from rooms.accept import Draft, accept, outcome_of
from rooms.batching import Batcher, Full
from rooms.errors import ChatError, Code
from rooms.models import Room
from rooms.outcomes import Outcome, OutcomeKind
from rooms.payload import size_of

logger = logging.getLogger(__name__)

FIRST_RETRY_SECONDS = 0.05
LONGEST_RETRY_SECONDS = 1.0
QUEUE_MAX_BYTES = 67_108_864  # of content that waits for its transaction, or is in it
RECENT_OUTCOMES = 10_000
POLL_SECONDS = 1.0
POLL_BATCH_MESSAGES = 1000


class Acceptor:
    """Accepts drafts in batches and tells what became of each, after its review."""

    def __init__(self, room_gone: Callable[[str], None] = lambda name: None) -> None:
        self.verdicts = Verdicts()
        self._room_gone = room_gone
        self.accepted = 0  # for the metrics
        self._waiting_bytes = 0
        self._batcher: Batcher[Draft, Outcome] = Batcher(
            self._accept, max_batch=settings.ACCEPT_BATCH_MESSAGES, max_waiting=settings.ACCEPT_QUEUE_MESSAGES
        )

    @property
    def waiting(self) -> int:
        """How many drafts wait for their transaction."""
        return self._batcher.waiting

    def submit(self, drafts: Sequence[Draft]) -> list[asyncio.Future[Outcome]]:
        """Queue the drafts of one publish: each future ends with the final outcome of its draft, or ChatError.

        PENDING only where patience ran out. Raises ChatError 42910 and queues none where too much waits already.
        """
        sizes = [size_of(draft.content) for draft in drafts]
        try:
            if self._waiting_bytes and self._waiting_bytes + sum(sizes) > QUEUE_MAX_BYTES:
                raise Full
            accepted = self._batcher.submit_all(drafts)
        except Full:
            raise ChatError(Code.TOO_MANY_PUBLISHES, "The server is busy; publish again in a moment.") from None
        return [self._follow(one, size) for one, size in zip(accepted, sizes, strict=True)]

    def _follow(self, accepted: asyncio.Future[Outcome], size: int) -> asyncio.Future[Outcome]:
        final: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting_bytes += size

        def done(_: asyncio.Future[Outcome]) -> None:
            self._waiting_bytes -= size
            self._accepted(accepted, final)

        accepted.add_done_callback(done)
        return final

    async def close(self) -> None:
        """Wait until everything queued is durable or refused. The caller bounds the wait."""
        await self._batcher.close()

    def _accepted(self, accepted: asyncio.Future[Outcome], final: asyncio.Future[Outcome]) -> None:
        if final.done():
            accepted.cancelled() or accepted.exception()
        elif accepted.cancelled():
            final.cancel()
        elif (error := accepted.exception()) is not None:
            final.set_exception(error)
        elif accepted.result().kind is OutcomeKind.PENDING:
            self.verdicts.wait(accepted.result().message, final)
        else:
            final.set_result(accepted.result())

    async def _accept(self, drafts: Sequence[Draft]) -> Sequence[Outcome]:
        """Accept a batch. While Postgres is away it is tried again: ids make a repeat harmless."""
        loop = asyncio.get_running_loop()
        give_up, pause = loop.time() + settings.ACCEPT_RETRY_SECONDS, FIRST_RETRY_SECONDS
        while True:
            try:
                outcomes = await database.run(accept, drafts, now=timezone.now())
                self.accepted += len(outcomes)
                for draft, outcome in zip(drafts, outcomes, strict=True):
                    if outcome.error is not None and outcome.error.code == Code.NOT_FOUND:
                        self._room_gone(draft.room)
                return outcomes
            except (OperationalError, InterfaceError) as error:
                if loop.time() > give_up:
                    logger.error("%d publishes refused: Postgres is away (%s)", len(drafts), type(error).__name__)
                    raise ChatError(Code.UNAVAILABLE, "The message could not be stored; publish it again.") from None
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_RETRY_SECONDS)
            except Exception as error:
                return await self._one_by_one(drafts, error)

    async def _one_by_one(self, drafts: Sequence[Draft], error: Exception) -> Sequence[Outcome]:
        """A draft that no transaction takes must not take the others of its batch with it."""
        if len(drafts) == 1:
            logger.error("a publish failed (%s)", type(error).__name__, exc_info=error)
            failed = ChatError(Code.INTERNAL, "The message could not be stored.")
            return [Outcome(kind=OutcomeKind.REJECTED, message=0, error=failed)]
        return [outcome for draft in drafts for outcome in await self._accept([draft])]


class Verdicts:
    """Authors that wait for a late verdict, by the message's primary key.

    Told by broadcast; `poll` finds what a lost broadcast would have told, and ends the waiting of the impatient.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, list[tuple[float, asyncio.Future[Outcome]]]] = {}
        self._recent: OrderedDict[int, Outcome] = OrderedDict()

    @property
    def waiting(self) -> int:
        """How many messages' authors wait."""
        return len(self._waiting)

    def wait(self, message: int, future: asyncio.Future[Outcome]) -> None:
        """Set the future once the message is decided."""
        recent = self._recent.get(message)
        if recent is not None:
            future.set_result(recent)
        else:
            since = asyncio.get_running_loop().time()
            self._waiting.setdefault(message, []).append((since, future))

    def tell(self, outcomes: Iterable[Outcome]) -> None:
        """Take final outcomes. One that nobody waits for yet is kept for a while: its author may be about to."""
        for outcome in outcomes:
            self._recent[outcome.message] = outcome
            for _, future in self._waiting.pop(outcome.message, ()):
                if not future.done():
                    future.set_result(outcome)
        while len(self._recent) > RECENT_OUTCOMES:
            self._recent.popitem(last=False)

    async def poll(self) -> None:
        """Ask Postgres about messages waited for longer than a broadcast takes."""
        now = asyncio.get_running_loop().time()
        for message in [key for key, waiters in self._waiting.items() if all(f.done() for _, f in waiters)]:
            del self._waiting[message]
        old = [key for key, waiters in self._waiting.items() if now - waiters[0][0] > POLL_SECONDS]
        for first in range(0, len(old), POLL_BATCH_MESSAGES):
            self.tell(await database.run(read_outcomes, old[first : first + POLL_BATCH_MESSAGES]))
        for message, waiters in list(self._waiting.items()):
            if now - waiters[0][0] > settings.ACK_PATIENCE_SECONDS:
                self.tell([Outcome(kind=OutcomeKind.PENDING, message=message)])
                del self._recent[message]


def read_outcomes(messages: Sequence[int]) -> list[Outcome]:
    """Return the outcomes of those messages (primary keys) that are decided."""
    rows = queries.find(messages).values()
    epochs = dict(Room.objects.filter(id__in={row.room_id for row in rows}).values_list("id", "epoch"))
    outcomes = [outcome_of(row, epochs[row.room_id]) for row in rows if row.room_id in epochs]
    return [outcome for outcome in outcomes if outcome.kind is not OutcomeKind.PENDING]
