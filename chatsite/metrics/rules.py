"""The metrics of rules and workers, read from Postgres: they are the same from each gateway, so no label names one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate
from typing import Final

from django.db import DatabaseError
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from integrations.events import occupancy_events
from integrations.models import BreakerState, Notice
from integrations.monitoring import figures, latency
from integrations.monitoring.figures import RuleFigures, WorkerFigures
from rooms import faults
from rooms.database import threads
from rooms.faults import POSTGRES_AWAY

logger = logging.getLogger(__name__)

READ_SECONDS: Final = 5.0
# 1, 2.5 and 5 of each decade: what the admin keeps is finer than what dashboards need.
TOLD_BOUNDS: Final = [place for place in range(len(latency.BOUNDS_MS)) if place % 10 in (0, 4, 7)]
BREAKERS: Final = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The figures of all rules and workers at one moment."""

    at: datetime
    rules: Sequence[RuleFigures]
    workers: Sequence[WorkerFigures]
    open_notices: int
    rooms_told: int
    rooms_compared_seconds: float


async def read() -> Reading | None:
    """Read the figures; None where Postgres does not give them within READ_SECONDS."""
    try:
        async with asyncio.timeout(READ_SECONDS):
            return await threads.run(_read, datetime.now(UTC))
    except (*POSTGRES_AWAY, TimeoutError) as error:
        logger.warning("The metrics of rules could not be read (%s).", type(error).__name__)
    except DatabaseError:
        faults.record("metrics of rules")
    return None


def _read(now: datetime) -> Reading:
    rooms_told, compared_seconds = occupancy_events.open_rooms()
    return Reading(
        at=now,
        rules=figures.of_rules(now=now, minutes=1),
        workers=figures.workers(),
        open_notices=Notice.objects.filter(dismissed_at__isnull=True).count(),
        rooms_told=rooms_told,
        rooms_compared_seconds=compared_seconds,
    )


class RuleCollector(Collector):
    """Turns a reading into metric families."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def collect(self) -> Iterable[Metric]:
        """Yield one family a figure."""
        yield from self._counters()
        yield self._verdicts()
        yield self._durations()
        yield from self._gauges()
        yield from self._workers()

    def _counters(self) -> Iterator[Metric]:
        texts = {
            "calls": "Calls to a rule's target",
            "failed": "Calls that failed",
            "events": "Events that were delivered",
            "dead": "Deliveries that were given up: dead letters",
            "shared": "Verdicts that were taken from a call about the same text",
        }
        for name, text in texts.items():
            family = CounterMetricFamily(f"chat_rule_{name}", text, labels=["rule"])
            for one in self._reading.rules:
                family.add_metric([one.rule.name], getattr(one.total, name))
            yield family

    def _verdicts(self) -> Metric:
        family = CounterMetricFamily("chat_rule_verdicts", "Verdicts by what they do", labels=["rule", "action"])
        for one in self._reading.rules:
            for action, count in sorted(one.total.verdicts.items()):
                family.add_metric([one.rule.name, action], count)
        return family

    def _durations(self) -> Metric:
        family = HistogramMetricFamily("chat_rule_call_seconds", "How long calls took", labels=["rule"])
        for one in self._reading.rules:
            sums = list(accumulate(one.total.buckets or [0] * latency.BUCKETS))
            told = [(f"{latency.BOUNDS_MS[place] / 1000:g}", sums[place]) for place in TOLD_BOUNDS]
            family.add_metric([one.rule.name], [*told, ("+Inf", sums[-1])], sum_value=None)
        return family

    def _gauges(self) -> Iterator[Metric]:
        now = self._reading.at
        gauges: dict[str, tuple[str, Callable[[RuleFigures], float]]] = {
            "chat_rule_enabled": ("1 while the rule is on", lambda one: float(one.rule.enabled)),
            "chat_rule_backlog": (
                f"Deliveries that are not finished (counted up to {figures.BACKLOG_COUNTED})",
                lambda one: float(one.backlog.size),
            ),
            "chat_rule_backlog_age_seconds": (
                "How long the oldest of them has waited",
                lambda one: one.backlog.age_seconds(now),
            ),
            "chat_rule_dead_letters": ("Dead letters that are kept", lambda one: float(one.backlog.dead)),
            "chat_rule_breaker": (
                "Circuit breaker of the worst off worker: 0 closed, 1 half-open, 2 open",
                lambda one: float(BREAKERS[BreakerState(one.throttle.breaker)]),
            ),
            "chat_rule_limit": (
                "Calls that may be under way at once, all workers together (0: none has called lately)",
                lambda one: one.throttle.limit or 0.0,
            ),
            "chat_rule_calls_under_way": ("Calls under way", lambda one: float(one.throttle.calls)),
            "chat_rule_failing_seconds": (
                "Since when every call has failed (limits: RULE_WARN_SECONDS, RULE_DISABLE_SECONDS)",
                lambda one: max((now - one.failing_since).total_seconds(), 0.0) if one.failing_since else 0.0,
            ),
        }
        for name, (text, value_of) in gauges.items():
            family = GaugeMetricFamily(name, text, labels=["rule"])
            for one in self._reading.rules:
                family.add_metric([one.rule.name], value_of(one))
            yield family

    def _workers(self) -> Iterator[Metric]:
        alive = [worker for worker in self._reading.workers if worker.is_alive]
        yield GaugeMetricFamily("chat_workers", "Workers that are alive", value=len(alive))
        yield GaugeMetricFamily(
            "chat_notices_open", "Notices that no admin has dismissed", value=self._reading.open_notices
        )
        yield GaugeMetricFamily(
            "chat_rule_rooms_open",
            "Rooms that are open as far as rules were told (changes a second: OCCUPANCY_EVENTS_PER_SECOND)",
            value=self._reading.rooms_told,
        )
        yield GaugeMetricFamily(
            "chat_rule_rooms_compared_seconds",
            "How long ago a worker compared the rooms with what rules were told (0: no rule hears of rooms)",
            value=self._reading.rooms_compared_seconds,
        )
        gauge, counter = GaugeMetricFamily, CounterMetricFamily
        families = (
            (gauge, "calls_under_way", "Calls under way (limit: DELIVERY_CONCURRENCY)", "calls"),
            (gauge, "stuck_results", "Results of calls that wait for locked rooms", "stuck_results"),
            (counter, "dropped_results", "Of them dropped: their calls are repeated", "dropped_results"),
        )
        for kind, name, text, field in families:
            family = kind(f"chat_worker_{name}", text, labels=["worker"])
            for worker in alive:
                family.add_metric([worker.name], getattr(worker, field))
            yield family
