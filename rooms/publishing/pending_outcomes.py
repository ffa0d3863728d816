"""Keeps the futures of outcomes that publishers wait for, and resolves them once messages are decided."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from rooms.database import threads
from rooms.log import message_queries
from rooms.log.outcomes import Outcome, OutcomeKind, outcome_of
from rooms.models import Room

ACK_PATIENCE_SECONDS = 20.0  # then a stored message is acknowledged without a serial: SDKs wait for little longer
OUTCOMES_KEPT = 10_000  # outcomes that came before their publisher waited; older ones are polled from Postgres

POLL_SECONDS = 1.0
POLL_BATCH_MESSAGES = 1000

FinalOutcomes = asyncio.Future[list[Outcome]]  # the final outcomes of one publish's messages, in order


class PendingOutcomes:
    """The outcomes that publishers wait for, by the message's primary key.

    Announcements resolve them; `poll` reads those whose announcement was lost, and ends waits of ACK_PATIENCE_SECONDS.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, list[tuple[float, asyncio.Future[Outcome]]]] = {}
        self._recent: OrderedDict[int, Outcome] = OrderedDict()

    @property
    def waiting(self) -> int:
        """The number of messages whose outcomes are waited for."""
        return len(self._waiting)

    def finish(self, outcomes: Sequence[Outcome], final: FinalOutcomes) -> None:
        """Set the future to the outcomes of one publish, once none of them is PENDING."""
        finished = list(outcomes)
        missing = [place for place, outcome in enumerate(outcomes) if outcome.kind is OutcomeKind.PENDING]
        if not missing:
            final.set_result(finished)
            return
        waits = [self.wait(finished[place].message) for place in missing]

        def decided(_: asyncio.Future[Outcome]) -> None:
            if final.done() or not all(wait.done() for wait in waits):
                return
            for place, wait in zip(missing, waits, strict=True):
                finished[place] = wait.result()
            final.set_result(finished)

        for wait in waits:
            wait.add_done_callback(decided)

    def wait(self, message: int) -> asyncio.Future[Outcome]:
        """Return the future of a message's final outcome."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Outcome] = loop.create_future()
        recent = self._recent.get(message)
        if recent is not None:
            future.set_result(recent)
        else:
            self._waiting.setdefault(message, []).append((loop.time(), future))
        return future

    def resolve(self, outcomes: Iterable[Outcome]) -> None:
        """Resolve the futures of final outcomes, and keep outcomes for a while: the wait may begin after them."""
        for outcome in outcomes:
            self._recent[outcome.message] = outcome
            for _, future in self._waiting.pop(outcome.message, ()):
                if not future.done():
                    future.set_result(outcome)
        while len(self._recent) > OUTCOMES_KEPT:
            self._recent.popitem(last=False)

    async def poll(self) -> None:
        """Read outcomes that are waited for longer than an announcement takes. Raises while Postgres is away."""
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
    # Of thousands that wait for a Lambda, few are decided: only those rows are read.
    rows = message_queries.find(message_queries.find_decided(messages)).values()
    epochs = dict(Room.objects.filter(id__in={row.room_id for row in rows}).values_list("id", "epoch"))
    return [outcome_of(row, epochs[row.room_id]) for row in rows if row.room_id in epochs]
