"""Stores the results of calls in batches: all results that arrive during one transaction go into the next.

Single deliveries and lanes have a loop each, so that a locked lane delays no verdict. Results whose rooms stay locked
are left to a third loop (integrations.worker.stuck_results). While Postgres is away nothing is dropped: the worker
claims nothing more, and storing is tried until it succeeds.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import ParamSpec, TypeVar

from integrations import outbox
from integrations.models import IntegrationRule
from integrations.outbox import Claim
from integrations.outbox.conclusions import Conclusion, Fate
from integrations.review.reviewer import awaiting_of
from integrations.worker.caller import FinishedCall
from integrations.worker.clock import Clock
from integrations.worker.stuck_results import StuckResults
from rooms import faults
from rooms.database.patience import is_lock_timeout
from rooms.database.threads import SingleThread
from rooms.errors import Code
from rooms.faults import POSTGRES_AWAY
from rooms.log import room_locks
from rooms.log.outcomes import Outcome
from rooms.log.room_locks import LOCK_SECONDS
from rooms.review.contract import Decision, Verdict, VerdictAction
from rooms.review.late import may_apply

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 0.5  # after Postgres was away
DATABASE_SECONDS = 30.0
REST_SECONDS = 0.005
AWAY = (*POSTGRES_AWAY, TimeoutError)  # a statement that hangs counts too

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Store = Callable[[Sequence[FinishedCall]], Awaitable[bool]]


@dataclass
class WorkerMetrics:
    """Counters of this worker since it started."""

    calls: int = 0
    failed_calls: int = 0
    shared: int = 0
    seconds_in_calls: float = 0.0
    seconds_storing: float = 0.0
    expired: int = 0
    lost_leases: int = 0
    fates: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)

    def count(self, done: FinishedCall) -> None:
        """Count a finished call, or a verdict shared without a call."""
        report = done.report
        self.fates.update(one.fate.value for one in report.conclusions)
        if report.is_shared:
            self.shared += 1
            return
        self.calls += 1
        self.seconds_in_calls += report.duration_ms / 1000
        self.failed_calls += any(one.fate is not Fate.DELIVERED for one in report.conclusions)


class Recorder:
    """Stores the results of one worker. `stored` is called with each stored batch, and whether more is due now."""

    def __init__(self, owner: str, *, stored: Callable[[Sequence[FinishedCall], bool], None], clock: Clock) -> None:
        self.metrics = WorkerMetrics()
        self._clock = clock
        self._owner = owner
        self._stored = stored
        self._singles = _Queue("record")
        self._lanes = _Queue("record-lanes")
        self._beside = _Queue("record-stuck")  # only its thread is used
        self.stuck = StuckResults(
            store=partial(self._store_singles, queue=self._beside),
            find_locked=lambda rooms: self._singles.run(room_locks.find_locked, rooms),
            back=self._singles.add,
        )
        self._backs: list[Claim] = []
        self._is_ending = False

    @property
    def waiting(self) -> int:
        """How many results are not stored yet, without those for stuck rooms, which keep nobody from claiming."""
        return len(self._singles) + len(self._lanes)

    def add(self, done: FinishedCall) -> None:
        """Queue the result of a call."""
        self.metrics.count(done)
        if done.report.lane is not None:
            self._lanes.add(done)
            return
        for rest in self.stuck.keep([done]):
            self._singles.add(rest)

    def give_back(self, claim: Claim) -> None:
        """Queue a claim that was not called, to be given back."""
        self._backs.append(claim)
        self._lanes.has_more.set()

    def finish(self) -> None:
        """Let `run` end once everything is stored, or cannot be. Nothing may be added afterwards."""
        self._is_ending = True
        self._singles.has_more.set()
        self._lanes.has_more.set()

    async def run(self) -> None:
        """Store results until `finish`."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.stuck.run())
                async with asyncio.TaskGroup() as main:
                    main.create_task(self._drain(self._singles, partial(self._store_singles, queue=self._singles)))
                    main.create_task(self._drain(self._lanes, self._store_lanes))
                self.stuck.finish()
        finally:
            for queue in (self._singles, self._lanes, self._beside):
                queue.thread.close()

    async def _drain(self, queue: _Queue, store: Store) -> None:
        while True:
            await queue.has_more.wait()
            queue.has_more.clear()
            if queue is self._lanes:
                await self._store_backs()
            if part := queue.drain():
                began = time.monotonic()
                has_more = await self._store_patiently(part, store)
                queue.stored()
                self._stored(part, has_more)
                if len(part) > 1:
                    # Under load: a larger batch costs hardly more than a small one.
                    await asyncio.sleep(min(time.monotonic() - began, REST_SECONDS))
            if self._is_ending and not queue and not (queue is self._lanes and self._backs):
                return

    async def _store_patiently(self, part: Sequence[FinishedCall], store: Store) -> bool:
        """Store results, waiting for Postgres as long as it is away. Return whether more is due now.

        Results for rooms that stay locked are left to `stuck`.
        """
        while part:
            began = time.monotonic()
            try:
                has_more = await store(part)
                self.metrics.seconds_storing += time.monotonic() - began
                return has_more
            except AWAY as error:
                if is_lock_timeout(error) and (free := await self.stuck.divide(part)) is not None:
                    part = free
                    continue
                logger.warning("%d results wait for Postgres (%s).", len(part), type(error).__name__)
                if self._is_ending:
                    return False  # the leases run out and the calls are repeated
                await asyncio.sleep(PAUSE_SECONDS)
            except Exception:
                if len(part) == 1:
                    # Its lease runs out, the call is repeated, and at last the delivery becomes a dead letter.
                    logger.error("The result of a call of rule %s cannot be stored.", part[0].claim.rule.pk)
                    faults.record("storing the result of a call")
                    return False
                logger.warning("%d results cannot be stored together; each half is tried.", len(part), exc_info=True)
                middle = len(part) // 2
                first = await self._store_patiently(part[:middle], store)
                return await self._store_patiently(part[middle:], store) or first
        return False

    async def _store_lanes(self, part: Sequence[FinishedCall]) -> bool:
        reports = [done.report for done in part]
        recorded = await self._lanes.run(outbox.record_lanes, reports, owner=self._owner, now=self._clock.now())
        self.metrics.lost_leases += len(reports) - recorded.kept
        return recorded.has_more

    async def _store_backs(self) -> None:
        backs, self._backs = self._backs, []
        if backs:
            try:
                await self._lanes.run(outbox.release, backs, now=self._clock.now())
            except AWAY:
                logger.warning("%d leases could not be given back; they run out.", len(backs))

    async def _store_singles(self, part: Sequence[FinishedCall], *, queue: _Queue) -> bool:
        """Store results with their verdicts. Late verdicts are applied first, in a transaction of their own.

        Both transactions lock rooms, and wait at most LOCK_SECONDS for each. Where only the first succeeds, a second
        try (or after a crash, a second call) is without effect on what it has applied.
        """
        now = self._clock.now()
        late = decisions_of(part, lambda one, rule: may_overrule(one, rule, now))
        overruled: set[int] = set()
        if late:
            recorded = await queue.run(outbox.overrule, late, now=now, lock_seconds=LOCK_SECONDS)
            overruled = late.keys() - set(recorded.stale)
            self._count(recorded.outcomes)
        # Where the deadline has passed but was not applied yet, the verdict is still in time.
        decisions = decisions_of(part, lambda one, rule: one.delivery.id not in overruled)
        reports = [done.report for done in part]
        recorded = await queue.run(
            outbox.record_singles, reports, decisions, owner=self._owner, now=now, lock_seconds=LOCK_SECONDS
        )
        self._count(recorded.outcomes)
        if recorded.stale:
            await self._overrule_stale(part, frozenset(recorded.stale), queue)
        return False  # deliveries that follow from verdicts notify all workers by themselves

    async def _overrule_stale(self, part: Sequence[FinishedCall], stale: frozenset[int], queue: _Queue) -> None:
        """Apply as late those verdicts whose messages the deadline decided during the transaction before."""
        now = self._clock.now()
        late = decisions_of(part, lambda one, rule: one.delivery.id in stale and may_overrule(one, rule, now))
        if late:
            recorded = await queue.run(outbox.overrule, late, now=now, lock_seconds=LOCK_SECONDS)
            self._count(recorded.outcomes)

    def _count(self, outcomes: Iterable[Outcome]) -> None:
        self.metrics.outcomes.update(outcome.kind.value for outcome in outcomes)


def decisions_of(
    part: Iterable[FinishedCall], counts: Callable[[Conclusion, IntegrationRule], bool]
) -> dict[int, Decision]:
    """Return the decisions of the conclusions for which `counts` is true, by delivery."""
    decisions: dict[int, Decision] = {}
    for done in part:
        rule = done.claim.rule
        for one in done.report.conclusions:
            verdict = fall_back_of(one.delivery.policy) if one.fall_back else one.verdict
            if verdict is None or one.delivery.message_id is None or not counts(one, rule):
                continue
            awaiting = awaiting_of(one.delivery.rule_id)
            by = f"{awaiting} failed" if one.fall_back else f"{awaiting} shared" if done.report.is_shared else ""
            decisions[one.delivery.id] = Decision(
                message=one.delivery.message_id, awaiting=awaiting, verdict=verdict, by=by
            )
    return decisions


def may_overrule(one: Conclusion, rule: IntegrationRule, now: datetime) -> bool:
    """Return whether the deadline has passed, and the rule's late verdicts count."""
    return (
        one.verdict is not None
        and one.delivery.deadline is not None
        and may_apply(rule.late, is_past_deadline=one.delivery.deadline <= now)
    )


def fall_back_of(policy: str) -> Verdict:
    """Return the verdict on a message whose target can never give one, from the policy for its deadline."""
    known = (VerdictAction.PUBLISH, VerdictAction.REJECT, VerdictAction.HOLD)
    action = VerdictAction(policy) if policy in known else VerdictAction.REJECT
    return Verdict(action=action, code=Code.REJECTED_BY_RULE, reason="The message could not be checked.")


class _Queue:
    """The results of single deliveries or of lanes that wait to be stored, and the thread that stores them."""

    def __init__(self, name: str) -> None:
        self.has_more = asyncio.Event()
        self.thread = SingleThread(name)
        self._waiting: list[FinishedCall] = []
        self._storing = 0

    def __len__(self) -> int:
        return len(self._waiting) + self._storing

    def add(self, done: FinishedCall) -> None:
        self._waiting.append(done)
        self.has_more.set()

    def drain(self) -> list[FinishedCall]:
        taken, self._waiting = self._waiting, []
        self._storing = len(taken)
        return taken

    def stored(self) -> None:
        self._storing = 0

    async def run(
        self, function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Result:
        async with asyncio.timeout(DATABASE_SECONDS):
            return await self.thread.run(function, *args, **kwargs)
