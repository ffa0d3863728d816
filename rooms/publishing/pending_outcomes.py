"""Authors whose messages wait for a late verdict, and how they hear of it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from rooms.database import threads
from rooms.log import message_queries
from rooms.log.outcomes import Outcome, OutcomeKind, outcome_of
from rooms.models import Room

ACK_PATIENCE_SECONDS = 20.0  # then a durable message is acknowledged without a serial: SDKs wait for little longer
VERDICTS_KEPT = 10_000  # late outcomes kept for authors who are about to ask; the others ask Postgres

POLL_SECONDS = 1.0
POLL_BATCH_MESSAGES = 1000

Final = asyncio.Future[list[Outcome]]  # of one publish: where each of its messages ended, in order


class PendingOutcomes:
    """Who waits, by the message's primary key.

    Told by broadcast; `poll` finds what a lost broadcast would have told, and ends the waiting of the impatient.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, list[tuple[float, asyncio.Future[Outcome]]]] = {}
        self._recent: OrderedDict[int, Outcome] = OrderedDict()

    @property
    def waiting(self) -> int:
        """How many messages' authors wait."""
        return len(self._waiting)

    def settle(self, outcomes: Sequence[Outcome], final: Final) -> None:
        """Set the future to the outcomes of one publish, once none of its messages waits for a verdict."""
        settled = list(outcomes)
        missing = [place for place, outcome in enumerate(outcomes) if outcome.kind is OutcomeKind.PENDING]
        if not missing:
            final.set_result(settled)
            return
        waits = [self.wait(settled[place].message) for place in missing]

        def decided(_: asyncio.Future[Outcome]) -> None:
            if final.done() or not all(wait.done() for wait in waits):
                return
            for place, wait in zip(missing, waits, strict=True):
                settled[place] = wait.result()
            final.set_result(settled)

        for wait in waits:
            wait.add_done_callback(decided)

    def wait(self, message: int) -> asyncio.Future[Outcome]:
        """Return the future of a message's outcome."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Outcome] = loop.create_future()
        recent = self._recent.get(message)
        if recent is not None:
            future.set_result(recent)
        else:
            self._waiting.setdefault(message, []).append((loop.time(), future))
        return future

    def resolve(self, outcomes: Iterable[Outcome]) -> None:
        """Take final outcomes. One that nobody waits for yet is kept for a while: its author may be about to."""
        for outcome in outcomes:
            self._recent[outcome.message] = outcome
            for _, future in self._waiting.pop(outcome.message, ()):
                if not future.done():
                    future.set_result(outcome)
        while len(self._recent) > VERDICTS_KEPT:
            self._recent.popitem(last=False)

    async def poll(self) -> None:
        """Ask Postgres about messages waited for longer than a broadcast takes. Raises while it is away."""
        now = asyncio.get_running_loop().time()
        for message in [key for key, waiters in self._waiting.items() if all(f.done() for _, f in waiters)]:
            del self._waiting[message]
        old = [key for key, waiters in self._waiting.items() if now - waiters[0][0] > POLL_SECONDS]
        try:
            for first in range(0, len(old), POLL_BATCH_MESSAGES):
                self.resolve(await threads.run(read_outcomes, old[first : first + POLL_BATCH_MESSAGES]))
        finally:
            self._end_patience(now)

    def _end_patience(self, now: float) -> None:
        for message, waiters in list(self._waiting.items()):
            if now - waiters[0][0] > ACK_PATIENCE_SECONDS:
                del self._waiting[message]
                for _, future in waiters:
                    if not future.done():
                        future.set_result(Outcome(kind=OutcomeKind.PENDING, message=message))


def read_outcomes(messages: Sequence[int]) -> list[Outcome]:
    """Return the outcomes of those messages (primary keys) that are decided."""
    # Of thousands that wait for a Lambda, few are decided: only those are read.
    rows = message_queries.find(message_queries.find_decided(messages)).values()
    epochs = dict(Room.objects.filter(id__in={row.room_id for row in rows}).values_list("id", "epoch"))
    return [outcome_of(row, epochs[row.room_id]) for row in rows if row.room_id in epochs]
