"""Calls the targets of claimed deliveries, shares cached verdicts instead of calls, and judges the answers."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from integrations.egress.answers import Answer, CallFailed
from integrations.models import IntegrationRule, Late
from integrations.monitoring.traffic import Traffic
from integrations.outbox import Claim, retry
from integrations.outbox.conclusions import CallReport, ClaimedDelivery, Fate
from integrations.wire.verdicts import read_payload
from integrations.worker.bulkhead import LEASE_MARGIN_SECONDS, Bulkhead, CallTarget, timeout_of
from integrations.worker.call_results import ended_of, judge_of, kept_of
from integrations.worker.clock import Clock
from integrations.worker.targets import Targets
from integrations.worker.throttle import CallEnd, CallStart
from integrations.worker.verdict_cache import CacheMiss, TextKeys, VerdictCache, text_keys_of
from rooms import faults
from rooms.faults import POSTGRES_AWAY
from rooms.review.contract import Verdict

logger = logging.getLogger(__name__)

VERDICT_CACHE_TEXTS = 20_000  # texts whose verdicts are remembered; the oldest go first
VERDICT_CACHE_WAITING = 500  # messages that wait for another's verdict; more are asked about

LEAST_TIMEOUT_SECONDS = 0.1
# If a call with a shorter timeout than this fails, that does not count against its target.
TELLING_SECONDS = 1.0
GONE = 410
STAND_IN_SHARE = 0.5  # of a message's remaining time that a call may take; the rest is left for the stand-in


@dataclass(frozen=True, kw_only=True)
class FinishedCall:
    """A finished call with its result, which is not stored yet."""

    claim: Claim
    report: CallReport


@dataclass(eq=False, kw_only=True)
class Parked:
    """A message that waits for the verdict on another message with the same text."""

    claim: Claim
    subject: TextKeys
    since: float


@dataclass(kw_only=True)
class Caller:
    """Makes calls. `done` receives results, `back` claims that are not called now, `recovered` the id of a rule
    whose target is back. `freed` is called after each call, however it ended: another may begin now.

    Bounds: the bulkhead bounds the calls, VERDICT_CACHE_WAITING the messages that wait for another's verdict.
    """

    targets: Targets
    bulkhead: Bulkhead
    traffic: Traffic
    done: Callable[[FinishedCall], None]
    back: Callable[[Claim], None]
    recovered: Callable[[int], None]
    freed: Callable[[], None]
    find_app_id: Callable[[], Awaitable[str]]
    count_workers: Callable[[], int]
    clock: Clock = field(default_factory=Clock)
    cache: VerdictCache = field(default_factory=lambda: VerdictCache(max_texts=VERDICT_CACHE_TEXTS))
    _tasks: dict[asyncio.Task[None], Claim] = field(default_factory=dict)
    _parked: set[Parked] = field(default_factory=set)

    def begin(self, claim: Claim) -> None:
        """Begin the call of a claim, or use a cached verdict instead."""
        try:
            if (
                claim.rule.cache_seconds > 0
                and claim.deliveries[0].deadline is not None
                and not claim.deliveries[0].is_late
            ):
                self._begin_known(claim)
            else:
                self._start(claim, {})
        except Exception:
            # A delivery that cannot be read must not end the worker. Its leases run out until its attempts are used up.
            logger.error("A call of rule %s could not be begun.", claim.rule.pk)
            faults.record("beginning a call")

    async def finish(self, seconds: float) -> None:
        """Wait up to `seconds` for the calls under way, and give the others back."""
        for parked in list(self._parked):
            self._parked.discard(parked)
            self.back(parked.claim)
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=seconds)
        left = dict(self._tasks)
        for task, claim in left.items():
            task.cancel()
            self.back(claim)
        if left:
            await asyncio.wait(list(left), timeout=1.0)

    # --- Verdicts from the cache ---

    def _begin_known(self, claim: Claim) -> None:
        to_call: dict[int, TextKeys] = {}
        for one in claim.deliveries:
            subject = self._subject_of(claim.rule, one)
            found = self._look(claim.rule, subject)
            alone = Claim(rule=claim.rule, deliveries=[one])
            if isinstance(found, Verdict):
                self._share(alone, found)
            elif found is CacheMiss.WAIT and len(self._parked) < VERDICT_CACHE_WAITING:
                self._park(Parked(claim=alone, subject=subject, since=time.monotonic()))
            else:
                # Later messages of this claim with the same text wait for this one.
                self.cache.begin(subject, now=time.monotonic())
                to_call[one.id] = subject
        if to_call:
            deliveries = [one for one in claim.deliveries if one.id in to_call]
            self._start(Claim(rule=claim.rule, deliveries=deliveries), to_call)

    def _look(self, rule: IntegrationRule, subject: TextKeys) -> Verdict | CacheMiss:
        # The first calls about a text are divided among the workers.
        after = math.ceil(rule.cache_after / self.count_workers())
        return self.cache.look(subject, seconds=rule.cache_seconds, after=after, now=time.monotonic())

    def _subject_of(self, rule: IntegrationRule, one: ClaimedDelivery) -> TextKeys:
        message = read_payload(one.payload)
        return text_keys_of(message, room_id=one.room_id, rule_id=rule.pk, changed_at=rule.changed_at)

    def _park(self, parked: Parked) -> None:
        self._parked.add(parked)
        self.cache.wait(parked.subject, lambda: self._look_again(parked))

    def _look_again(self, parked: Parked) -> None:
        """Look into the cache again after a call about the same text: use its verdict, wait on, or call."""
        if parked not in self._parked:
            return  # given back meanwhile
        found = self._look(parked.claim.rule, parked.subject)
        if found is CacheMiss.WAIT:
            self.cache.wait(parked.subject, lambda: self._look_again(parked))
            return
        self._parked.discard(parked)
        if isinstance(found, Verdict):
            self._share(parked.claim, found)
        elif time.monotonic() - parked.since > LEASE_MARGIN_SECONDS / 2:
            # The lease would end before a call that begins now.
            self.back(parked.claim)
        else:
            self.cache.begin(parked.subject, now=time.monotonic())
            self._start(parked.claim, {parked.claim.deliveries[0].id: parked.subject})

    def _share(self, claim: Claim, verdict: Verdict) -> None:
        now = self.clock.now()
        one = judge_of(claim.rule, now).share(claim.deliveries[0], verdict)
        self.traffic.share(claim.rule.pk, at=now, events=1, shared=1, verdicts={verdict.action.value: 1})
        report = CallReport(lane=None, conclusions=[one], started_at=now, duration_ms=0.0, is_shared=True)
        self.done(FinishedCall(claim=claim, report=report))

    # --- Calls ---

    def _start(self, claim: Claim, subjects: Mapping[int, TextKeys]) -> None:
        now = time.monotonic()
        by_stand_in = any(one.asks_stand_in for one in claim.deliveries)
        target = self.bulkhead.target_of(claim.rule, now, by_stand_in=by_stand_in)
        if target is None:  # since the claim, the target went down or sent Retry-After
            self._end_in_cache(subjects, {})
            self.back(claim)
            return
        begun = self.bulkhead.begin(target, now)
        call = _CallUnderWay(claim=claim, target=target, subjects=subjects)
        task = asyncio.create_task(self._call(call))
        self._tasks[task] = claim
        task.add_done_callback(lambda task: self._ended(task, call, begun))

    def _ended(self, task: asyncio.Task[None], call: _CallUnderWay, begun: CallStart) -> None:
        self._tasks.pop(task)
        try:
            if not task.cancelled():
                task.result()
        # In both cases the lease runs out and the delivery is tried again, until its attempts are used up.
        except (*POSTGRES_AWAY, TimeoutError) as error:
            logger.warning("A call of rule %s could not be made (%s).", call.claim.rule.pk, type(error).__name__)
        except Exception:
            logger.error("A call of rule %s could not be made.", call.claim.rule.pk)
            faults.record("calling a target")
        is_back = self.bulkhead.end(call.target, begun, call.ended, time.monotonic(), hold=call.hold)
        self.freed()
        self._end_in_cache(call.subjects, call.verdicts)
        if is_back:
            self.recovered(call.target.rule.pk)

    def _end_in_cache(self, subjects: Mapping[int, TextKeys], verdicts: Mapping[int, Verdict]) -> None:
        for delivery, subject in subjects.items():
            self.cache.end(subject, verdicts.get(delivery))

    async def _call(self, call: _CallUnderWay) -> None:
        claim, rule = call.claim, call.claim.rule
        app_id = await self.find_app_id()
        began, started_at = time.monotonic(), self.clock.now()
        timeout = timeout_of(call.target.rule)
        has_stand_in = self.bulkhead.stand_in_of(rule, began) is not None
        share = STAND_IN_SHARE if has_stand_in and not call.target.by_stand_in else 1.0
        if rule.late != Late.APPLY or share < 1.0:
            timeout = timeout_for(timeout, claim.deliveries, started_at, share=share)
        came: Answer | CallFailed
        try:
            came = await self.targets.call(
                call.target.rule, claim.deliveries, app_id=app_id, now=started_at, timeout=timeout
            )
        except CallFailed as failure:
            came = failure
        duration, now = time.monotonic() - began, self.clock.now()
        judge = judge_of(rule, now, has_other=has_stand_in or call.target.by_stand_in)
        conclusions = judge.conclude(claim.deliveries, came)
        call.ended = ended_of(came, was_cut=timeout < min(timeout_of(call.target.rule), TELLING_SECONDS * share))
        if isinstance(came, Answer):
            call.hold = retry.read_retry_after(came.status, came.retry_after, now=now.timestamp())
        call.verdicts = {one.delivery.id: one.verdict for one in conclusions if one.verdict is not None}
        report = CallReport(
            lane=claim.lane,
            conclusions=conclusions,
            started_at=started_at,
            duration_ms=duration * 1000,
            response=kept_of(came),
            stand_in_id=call.target.rule.pk if call.target.by_stand_in else 0,
        )
        self._count(call, report, came)
        self.done(FinishedCall(claim=claim, report=report))

    def _count(self, call: _CallUnderWay, report: CallReport, came: Answer | CallFailed) -> None:
        fates = [one.fate for one in report.conclusions]
        actions: dict[str, int] = {}
        for verdict in call.verdicts.values():
            actions[verdict.action.value] = actions.get(verdict.action.value, 0) + 1
        self.traffic.add(
            call.target.rule.pk,
            seconds=report.duration_ms / 1000,
            failed=any(fate is not Fate.DELIVERED for fate in fates),
            at=report.started_at,
            events=fates.count(Fate.DELIVERED),
            dead=fates.count(Fate.DEAD),
            verdicts=actions,
            error=report.conclusions[0].error,
            gone=isinstance(came, Answer) and came.status == GONE,
        )


@dataclass(kw_only=True)
class _CallUnderWay:
    """A call under way, and its result when it ends."""

    claim: Claim
    target: CallTarget
    subjects: Mapping[int, TextKeys]
    ended: CallEnd = CallEnd.UNKNOWN
    hold: float | None = None
    verdicts: Mapping[int, Verdict] = field(default_factory=dict)


def timeout_for(timeout: float, deliveries: Sequence[ClaimedDelivery], now: datetime, *, share: float = 1.0) -> float:
    """Return the seconds that a call may take: at most until the first deadline of its deliveries.

    `share`: the part of the time until the deadline that this call may use.
    """
    deadlines = [one.deadline for one in deliveries if one.deadline is not None and not one.is_late]
    if not deadlines:
        return timeout
    return max(LEAST_TIMEOUT_SECONDS, min(timeout, (min(deadlines) - now).total_seconds() * share))
