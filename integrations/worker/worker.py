"""The delivery worker: claims deliveries, lets the caller call their targets, and the recorder store the results.

Several loops share one process: this module claims, `caller` makes the calls, `recorder` stores their results, and
`deadlines` decides messages whose deadline has passed. All state is in Postgres: when a worker is killed, others take
over what it had under lease.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence

from django.conf import settings

from integrations import outbox
from integrations.egress.outgoing import Outgoing
from integrations.events.occupancy_events import OccupancyEvents
from integrations.models import ApiKey
from integrations.monitoring.cleanup import Cleanup
from integrations.monitoring.traffic import Traffic
from integrations.outbox import Capacity, Claimed
from integrations.outbox.conclusions import Fate
from integrations.review.orphaned_waits import OrphanedWaits
from integrations.rules import rules
from integrations.worker import deadlines, wakeups
from integrations.worker.bulkhead import Bulkhead
from integrations.worker.caller import Caller, FinishedCall
from integrations.worker.clock import Clock
from integrations.worker.heartbeat import Heartbeat
from integrations.worker.recorder import AWAY, DATABASE_SECONDS, Recorder, WorkerMetrics
from integrations.worker.stuck_results import StuckResults
from integrations.worker.targets import Targets
from integrations.worker.timers import Timers
from rooms.database import threads
from rooms.database.threads import SingleThread
from rooms.log import announce

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
PAUSE_SECONDS = 0.5  # after Postgres was away
FINISH_SECONDS = 3.0  # for calls under way when the worker is told to stop
UNSTORED = 4  # times DELIVERY_CONCURRENCY: while more results wait for Postgres, nothing is claimed
RETRY_NOW_STEPS = 1_000  # of outbox.retry_now, after a target was down


class Worker:
    """Claims and calls deliveries, as one of any number of workers. `run` until `stop`."""

    def __init__(self, outgoing: Outgoing, *, name: str | None = None) -> None:
        self.name = name or f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(3)}"
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._clock = Clock()
        self._timers = Timers(self._wake.set)
        self._bulkhead = Bulkhead()
        self.traffic = Traffic()
        self._recorder = Recorder(self.name, stored=self._stored, clock=self._clock)
        self._caller = Caller(
            targets=Targets(outgoing),
            bulkhead=self._bulkhead,
            traffic=self.traffic,
            done=self._recorder.add,
            back=self._recorder.give_back,
            recovered=self._retry_now,
            freed=self._freed,
            find_app_id=self._find_app_id,
            count_workers=lambda: self._heart.living,
            clock=self._clock,
        )
        self._heart = Heartbeat(
            self.name, self._bulkhead, self._clock, stuck=self._recorder.stuck, reclaimed=self._wake.set
        )
        self._thread = SingleThread("claim")
        self._app_id = ""
        self._retrying: dict[int, asyncio.Task[None]] = {}
        self._is_full = False  # more may be due than could be called: claim again when a call ends
        self._is_behind = False  # too many results wait for Postgres: claim again when some are stored
        self._has_looked = False  # a claim was made since the last notification
        self._polled_at = 0.0

    @property
    def metrics(self) -> WorkerMetrics:
        """The counters of this worker."""
        return self._recorder.metrics

    @property
    def stuck(self) -> StuckResults:
        """The results of this worker for rooms that another transaction keeps locked."""
        return self._recorder.stuck

    def stop(self) -> None:
        """Ask the worker to finish what is under way and end."""
        self._stopping.set()
        self._wake.set()

    async def run(self) -> None:
        """Work until `stop`; then finish calls within FINISH_SECONDS, store their results, and give the rest back."""
        announcer = announce.Announcer(asyncio.get_running_loop())
        announce.bind(announcer)
        background = [
            asyncio.create_task(wakeups.listen(outbox.CHANNEL, self._notified), name="listen"),
            asyncio.create_task(deadlines.run(self.metrics, self._clock), name="deadlines"),
            asyncio.create_task(self._heart.run(), name="heart"),
            asyncio.create_task(self.traffic.run(), name="traffic"),
            asyncio.create_task(Cleanup().run(), name="cleanup"),
            asyncio.create_task(OccupancyEvents().run(), name="occupancy"),
            asyncio.create_task(OrphanedWaits().run(), name="stray waits"),
        ]
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._claim(), name="claim")
                group.create_task(self._recorder.run(), name="record")
        finally:
            for task in [*background, *self._retrying.values()]:
                task.cancel()
            await asyncio.wait(background, timeout=FINISH_SECONDS)
            await asyncio.wait([asyncio.create_task(self._heart.leave())], timeout=FINISH_SECONDS)
            await asyncio.wait([asyncio.create_task(announcer.close())], timeout=FINISH_SECONDS)
            announce.bind(None)
            self._timers.close()
            self._thread.close()

    # --- Claiming -----------------------------------------------------------------------------------------

    async def _claim(self) -> None:
        try:
            while not self._stopping.is_set():
                self._wake.clear()
                if await self._claim_due():
                    continue
                await self._rest()
            await self._caller.finish(FINISH_SECONDS)
        finally:
            self._recorder.finish()

    async def _claim_due(self) -> bool:
        """Claim due deliveries and begin their calls. Return whether more could be claimed at once."""
        now = time.monotonic()
        every = now - self._polled_at >= POLL_SECONDS
        if every:  # notifications may be lost
            self._has_looked, self._polled_at = False, now
        self._is_full = False
        self._is_behind = self._recorder.waiting > settings.DELIVERY_CONCURRENCY * UNSTORED
        if self._is_behind:
            return False
        try:
            # Single deliveries first: messages wait for their verdicts.
            has_more = await self._claim_from(outbox.claim_singles, lanes=False, every=every)
            has_more |= await self._claim_from(outbox.claim_lanes, lanes=True, every=every)
            if not self._has_looked:  # an empty claim reads the rules, and so finds new ones
                has_more = await self._claim_with(outbox.claim_singles, (), lanes=False)
        except AWAY as error:
            logger.warning("Nothing can be claimed (%s); trying again.", type(error).__name__)
            await asyncio.sleep(PAUSE_SECONDS)
            return False
        return has_more

    async def _claim_from(self, claim: Callable[..., Claimed], *, lanes: bool, every: bool) -> bool:
        capacities, is_short = self._bulkhead.capacities(time.monotonic(), lanes=lanes, every=every)
        self._is_full |= is_short
        return bool(capacities) and await self._claim_with(claim, capacities, lanes=lanes)

    async def _claim_with(self, claim: Callable[..., Claimed], capacities: Sequence[Capacity], *, lanes: bool) -> bool:
        self._has_looked = True
        free = max(self._bulkhead.free, 0)  # as asked: calls that end meanwhile make it more
        async with asyncio.timeout(DATABASE_SECONDS):
            claimed = await self._thread.run(
                claim,
                capacities,
                free=free,
                max_attempts=settings.DELIVERY_MAX_ATTEMPTS,
                owner=self.name,
                now=self._clock.now(),
            )
        has_changed = self._bulkhead.learn(claimed.rules)
        for one in claimed.claims:
            self._caller.begin(one)
        for rule_id, number in claimed.given_up.items():
            self.traffic.share(rule_id, at=self._clock.now(), dead=number)
        taken = Counter(one.rule.pk for one in claimed.claims)
        self._bulkhead.note_taken(capacities, taken, lanes=lanes)
        is_full = len(claimed.claims) >= free or any(
            taken[capacity.rule_id] >= capacity.calls for capacity in capacities
        )
        self._is_full |= is_full
        return has_changed or (is_full and bool(claimed.claims))

    async def _rest(self) -> None:
        wait = self._bulkhead.wait(time.monotonic())
        try:
            async with asyncio.timeout(min(POLL_SECONDS, wait or POLL_SECONDS)):
                await self._wake.wait()
        except TimeoutError:
            pass  # the poll: notifications may be lost, and retries come due without one

    def _notified(self) -> None:
        self._has_looked = False
        self._wake.set()
        for wait in {rule.batch_wait_ms for rule in self._bulkhead.rules.values() if rule.batched and rule.enabled}:
            self._timers.repeat_once(wait / 1000)

    # --- Results of calls ---------------------------------------------------------------------------------

    def _freed(self) -> None:
        if self._is_full:
            self._wake.set()  # another call may begin

    def _stored(self, part: Sequence[FinishedCall], has_more: bool) -> None:
        """Claim again where lanes hold more, and when a soon retry is due; the poll finds later retries."""
        now = self._clock.now()
        for done in part:
            for one in done.report.conclusions:
                if one.fate is Fate.RETRY and (wait := (one.due_at - now).total_seconds()) < POLL_SECONDS:
                    self._timers.at(wait)
        if has_more or self._is_behind:
            self._wake.set()

    def _retry_now(self, rule_id: int) -> None:
        """Make the waiting retries of a rule due now: its target is back."""
        if rule_id not in self._retrying:
            task = self._retrying[rule_id] = asyncio.create_task(self._retry_all_now(rule_id))
            task.add_done_callback(lambda _: self._retrying.pop(rule_id))

    async def _retry_all_now(self, rule_id: int) -> None:
        ids = [rule_id]
        stood_in_for = self._bulkhead.rules.get(rule_id)
        if stood_in_for is not None and stood_in_for.stands_in and stood_in_for.shadow_of_id:
            ids.append(stood_in_for.shadow_of_id)
        try:
            for each in ids:
                for _ in range(RETRY_NOW_STEPS):
                    if not await threads.run(outbox.retry_now, each, now=self._clock.now()):
                        break
                    self._wake.set()
        except AWAY as error:
            logger.warning("Retries of rule %s keep their times (%s).", rule_id, type(error).__name__)

    async def _find_app_id(self) -> str:
        """Return the app's id, cached: it never changes once there is a key."""
        if not self._app_id:
            async with asyncio.timeout(DATABASE_SECONDS):
                self._app_id = await threads.run(read_app_id)
        return self._app_id


def read_app_id() -> str:
    """Return the id of this instance's app, "" while it has no key."""
    return ApiKey.objects.order_by("id").values_list("app_id", flat=True).first() or ""


def make_outgoing() -> Outgoing:
    """Return a pool of outgoing connections with the limits of the settings."""
    return Outgoing(allowed=rules.allow_list(), max_connections=settings.DELIVERY_CONCURRENCY)
