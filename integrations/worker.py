"""The delivery worker: claims what is owed, makes the calls, records what they bring.

Four loops share one process: `_claim` takes work while there is room, a task per call makes it, `_record` stores
everything that gathered while it stored the last, `_expire` lets the deadline decide. Nothing is known here alone:
a worker that is killed loses its leases, and another takes them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import secrets
import socket
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from django.conf import settings
from django.db import InterfaceError, OperationalError

from integrations import outbox, rules, targets, wakeups
from integrations.answers import Answer, CallFailed
from integrations.calls import RESPONSE_KEPT_CHARACTERS, Fate, Judge, Report
from integrations.cleanup import Cleanup
from integrations.models import ApiKey, IntegrationRule, When
from integrations.occupancy_events import OccupancyEvents
from integrations.outbox import Capacity, Claim
from integrations.outgoing import Outgoing
from integrations.reviewer import awaiting_of
from integrations.sealing import SealBroken
from integrations.stray_waits import StrayWaits
from integrations.traffic import Traffic
from rooms import announce, database, decide
from rooms.errors import Code
from rooms.review import Action, Decision, Verdict

logger = logging.getLogger(__name__)
Returned = TypeVar("Returned")

POLL_SECONDS = 1.0
EXPIRE_SECONDS = 0.5
PAUSE_SECONDS = 0.5  # after Postgres was away
DATABASE_SECONDS = 30.0
FINISH_SECONDS = 3.0  # for calls under way when the worker is told to stop
LEASE_MARGIN_SECONDS = 2.0
LEAST_TIMEOUT_SECONDS = 0.1
# One rule may take so much of a worker's calls: one that hangs leaves a quarter to the others.
RULE_SHARE = 0.75


@dataclass
class Metrics:
    """What this worker did since it started."""

    calls: int = 0
    failed_calls: int = 0
    seconds_in_calls: float = 0.0
    expired: int = 0
    lost_leases: int = 0
    fates: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, kw_only=True)
class Done:
    """A call that was made, on its way to the database."""

    claim: Claim
    report: Report


class Worker:
    """One process's share of the deliveries. `run` until `stop`."""

    def __init__(self, outgoing: Outgoing, *, name: str | None = None) -> None:
        self.name = name or f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(3)}"
        self.metrics = Metrics()
        self.traffic = Traffic()
        self._outgoing = outgoing
        self._concurrency: int = settings.DELIVERY_CONCURRENCY
        self._share = max(1, int(self._concurrency * RULE_SHARE))
        self._timeout: float = settings.DELIVERY_TIMEOUT_SECONDS
        self._app_id = ""
        self._busy: Counter[int] = Counter()  # calls by rule, until they are recorded
        self._tasks: dict[asyncio.Task[None], Claim] = {}
        self._done: list[Done] = []
        self._wake = asyncio.Event()
        self._has_done = asyncio.Event()
        self._stopping = asyncio.Event()
        self._is_finished = False  # no call is under way, and none will be

    def stop(self) -> None:
        """Ask the worker to finish what is under way and end."""
        self._stopping.set()
        self._wake.set()

    async def run(self) -> None:
        """Work until `stop`; then finish calls within FINISH_SECONDS, record them, and give the rest back."""
        announcer = announce.Announcer(asyncio.get_running_loop())
        announce.bind(announcer)
        background = [
            asyncio.create_task(wakeups.listen(outbox.CHANNEL, self._wake.set), name="listen"),
            asyncio.create_task(self._expire(), name="expire"),
            asyncio.create_task(self.traffic.run(), name="traffic"),
            asyncio.create_task(Cleanup().run(), name="cleanup"),
            asyncio.create_task(OccupancyEvents().run(), name="occupancy"),
            asyncio.create_task(StrayWaits().run(), name="stray waits"),
        ]
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._claim(), name="claim")
                group.create_task(self._record(), name="record")
        finally:
            for task in background:
                task.cancel()
            await asyncio.wait(background, timeout=FINISH_SECONDS)
            await asyncio.wait([asyncio.create_task(announcer.close())], timeout=FINISH_SECONDS)
            announce.bind(None)

    # --- Claiming -----------------------------------------------------------------------------------------

    async def _claim(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            if self._free > 0 and await self._take_work():
                continue
            await self._rest(POLL_SECONDS)
        await self._finish()

    async def _take_work(self) -> bool:
        """Claim what is due and begin its calls. Return whether there was anything."""
        lease = self._timeout + LEASE_MARGIN_SECONDS
        try:
            # Somebody waits for a verdict: those calls begin before anything else is looked for.
            has_begun = await self._take(outbox.claim_verdicts, lease)
            if self._free > 0:
                has_begun |= await self._take(outbox.claim_notices, max(lease, settings.DELIVERY_LEASE_SECONDS))
        except (OperationalError, InterfaceError, TimeoutError) as error:
            logger.warning("Nothing can be claimed (%s); trying again.", type(error).__name__)
            await asyncio.sleep(PAUSE_SECONDS)
            return False
        return has_begun

    async def _take(self, claim: Callable[..., list[Claim]], lease_seconds: float) -> bool:
        capacity = Capacity(
            free=self._free,
            share=self._share,
            max_attempts=settings.DELIVERY_MAX_ATTEMPTS,
            busy={rule: calls for rule, calls in self._busy.items() if calls},
        )
        now, lease = datetime.now(UTC), timedelta(seconds=lease_seconds)
        claims = await _bounded(database.run(claim, capacity, owner=self.name, now=now, lease=lease))
        for one in claims:
            self._begin(one)
        return bool(claims)

    @property
    def _free(self) -> int:
        return self._concurrency - self._busy.total()

    def _begin(self, claim: Claim) -> None:
        self._busy[claim.rule.pk] += 1
        task = asyncio.create_task(self._call(claim))
        self._tasks[task] = claim
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        claim = self._tasks.pop(task)
        if task.cancelled() or task.exception() is None:
            return
        # The lease runs out and the delivery is tried again, until its attempts are used up.
        logger.error("A call of rule %s could not be made: %r", claim.rule.pk, type(task.exception()).__name__)
        self._free_place(claim)

    async def _rest(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._wake.wait(), seconds)
        except TimeoutError:
            pass  # the poll: notifications may be lost, and retries come due without one

    async def _finish(self) -> None:
        """End the calls under way: recorded where they come to an end in time, given back where not."""
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=FINISH_SECONDS)
        left = dict(self._tasks)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(list(left), timeout=1.0)
            try:
                await _bounded(
                    database.run(outbox.release, list(left.values()), owner=self.name, now=datetime.now(UTC))
                )
            except (OperationalError, InterfaceError, TimeoutError):
                logger.warning("%d leases could not be given back; they run out.", len(left))
        self._is_finished = True
        self._has_done.set()

    # --- Calling ------------------------------------------------------------------------------------------

    async def _call(self, claim: Claim) -> None:
        began, started_at = time.monotonic(), datetime.now(UTC)
        came = await self._post(claim.rule, claim, started_at)
        duration = time.monotonic() - began
        judge = Judge(
            before=claim.rule.when == When.BEFORE,
            now=datetime.now(UTC),
            max_attempts=settings.DELIVERY_MAX_ATTEMPTS,
            message_max_bytes=settings.MESSAGE_MAX_BYTES,
            chance=random.uniform,
        )
        report = Report(
            lane=claim.lane,
            conclusions=judge.conclude(claim.owed, came),
            started_at=started_at,
            duration_ms=duration * 1000,
            response=kept_of(came),
        )
        self._count(claim.rule.pk, report, duration)
        self._done.append(Done(claim=claim, report=report))
        self._has_done.set()

    async def _post(self, rule: IntegrationRule, claim: Claim, now: datetime) -> Answer | CallFailed:
        deadline = claim.owed[0].deadline
        timeout = self._timeout
        if deadline is not None:
            timeout = max(LEAST_TIMEOUT_SECONDS, min(timeout, (deadline - now).total_seconds()))
        try:
            request = targets.prepare(rule, claim.owed, app_id=await self._find_app_id(), now=now)
            return await self._outgoing.post(request.url, body=request.body, headers=request.headers, timeout=timeout)
        except CallFailed as failure:
            return failure
        except SealBroken as error:
            return CallFailed(str(error), is_final=True)

    async def _find_app_id(self) -> str:
        """Return the app's id as keys name it; it never changes once there is a key."""
        if not self._app_id:
            self._app_id = await _bounded(database.run(read_app_id))
        return self._app_id

    def _count(self, rule_id: int, report: Report, seconds: float) -> None:
        self.metrics.calls += 1
        self.metrics.seconds_in_calls += seconds
        self.metrics.failed_calls += any(one.fate is not Fate.DELIVERED for one in report.conclusions)
        fates = Counter(one.fate.value for one in report.conclusions)
        self.metrics.fates.update(fates)
        first = report.conclusions[0]
        self.traffic.add(
            rule_id,
            seconds=seconds,
            failed=fates[Fate.DELIVERED] < len(report.conclusions),
            at=report.started_at,
            events=fates[Fate.DELIVERED],
            dead=fates[Fate.DEAD],
            verdicts=Counter(one.verdict.action.value for one in report.conclusions if one.verdict is not None),
            error=first.error,
            gone=first.status == 410,
        )

    # --- Recording ----------------------------------------------------------------------------------------

    async def _record(self) -> None:
        while True:
            await self._has_done.wait()
            self._has_done.clear()
            gathered, self._done = self._done, []
            if gathered:
                await self._record_all(gathered)
            if self._is_finished and not self._done:
                return

    async def _record_all(self, gathered: Sequence[Done]) -> None:
        """Store results; while Postgres is away, again and again: what was called must not be forgotten lightly."""
        before = [done for done in gathered if done.report.lane is None]
        after = [done for done in gathered if done.report.lane is not None]
        for part, store in ((before, self._store_verdicts), (after, self._store_notices)):
            if part:
                await self._store_patiently(part, store)
        for done in gathered:
            self._free_place(done.claim)

    async def _store_patiently(
        self, part: Sequence[Done], store: Callable[[Sequence[Done]], Coroutine[Any, Any, None]]
    ) -> None:
        while True:
            try:
                return await store(part)
            except (OperationalError, InterfaceError, TimeoutError) as error:
                logger.warning("%d results wait for Postgres (%s).", len(part), type(error).__name__)
                if self._stopping.is_set():
                    return  # the leases run out and the calls are repeated
                await asyncio.sleep(PAUSE_SECONDS)
            except Exception as error:
                if len(part) == 1:
                    # Poison: its lease runs out, it is tried again, and at last becomes a dead letter.
                    logger.error(
                        "The result of rule %s cannot be stored: %s", part[0].claim.rule.pk, type(error).__name__
                    )
                    return
                for done in part:
                    await self._store_patiently([done], store)
                return

    async def _store_verdicts(self, part: Sequence[Done]) -> None:
        decisions = {}
        for done in part:
            for one in done.report.conclusions:
                verdict = fall_back_of(done.claim.rule) if one.fall_back else one.verdict
                if verdict is not None and one.owed.message_id is not None:
                    awaiting = awaiting_of(one.owed.rule_id)
                    decisions[one.owed.id] = Decision(
                        message=one.owed.message_id,
                        awaiting=awaiting,
                        verdict=verdict,
                        by=f"{awaiting} failed" if one.fall_back else "",
                    )
        outcomes = await _bounded(
            database.run(
                outbox.record_verdicts,
                [done.report for done in part],
                decisions,
                owner=self.name,
                now=datetime.now(UTC),
            )
        )
        self.metrics.outcomes.update(outcome.kind.value for outcome in outcomes)
        self._wake_for_retries(part)

    async def _store_notices(self, part: Sequence[Done]) -> None:
        reports = [done.report for done in part]
        kept = await _bounded(database.run(outbox.record_notices, reports, owner=self.name, now=datetime.now(UTC)))
        self.metrics.lost_leases += len(reports) - kept
        self._wake_for_retries(part)

    def _wake_for_retries(self, part: Sequence[Done]) -> None:
        """Look again exactly when the soonest retry is due; later ones meet the poll."""
        now = datetime.now(UTC)
        waits = [
            (one.due_at - now).total_seconds()
            for done in part
            for one in done.report.conclusions
            if one.fate is Fate.RETRY
        ]
        for wait in {round(wait, 2) for wait in waits if wait < POLL_SECONDS}:
            asyncio.get_running_loop().call_later(max(wait, 0) + 0.001, self._wake.set)

    def _free_place(self, claim: Claim) -> None:
        self._busy[claim.rule.pk] -= 1
        self._wake.set()

    # --- Deadlines ----------------------------------------------------------------------------------------

    async def _expire(self) -> None:
        while True:
            try:
                expired = await _bounded(database.run(decide.expire))
                self.metrics.expired += expired
                if expired == decide.EXPIRE_BATCH_MESSAGES:
                    continue
            except Exception as error:
                logger.warning("Deadlines could not be checked (%s).", type(error).__name__)
            await asyncio.sleep(EXPIRE_SECONDS)


def fall_back_of(rule: IntegrationRule) -> Verdict:
    """Return what a rule says of a message that its endpoint will never judge."""
    return Verdict(
        action=Action(rule.at_deadline), code=Code.REJECTED_BY_RULE, reason="The message could not be checked."
    )


def kept_of(came: Answer | CallFailed) -> str:
    """Return as much of an answer as is kept for the people who look into it."""
    if isinstance(came, CallFailed):
        return ""
    return (
        came.body[: RESPONSE_KEPT_CHARACTERS * 4].decode(errors="replace").replace("\0", "�")[:RESPONSE_KEPT_CHARACTERS]
    )


def read_app_id() -> str:
    """Return the id of this instance's app, "" while it has no key."""
    return ApiKey.objects.order_by("id").values_list("app_id", flat=True).first() or ""


def make_outgoing() -> Outgoing:
    """Return the connections of a worker, as the settings allow them."""
    return Outgoing(allowed=rules.allow_list(), max_connections=settings.DELIVERY_CONCURRENCY)


async def _bounded(waiting: Coroutine[Any, Any, Returned]) -> Returned:
    return await asyncio.wait_for(waiting, DATABASE_SECONDS)
