"""The present backlogs of rules, workers and throttles. Reads only, every query bounded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.db import connection, transaction

from integrations.models import BreakerState, RuleThrottle, WorkerProcess
from rooms.database.statements import fetch

SILENT_SECONDS: Final = 3.5  # a worker that has not reported for so long is taken for dead
BACKLOG_COUNTED: Final = 100_000  # a longer backlog is shown as "at least so many"
LANES_LOOKED_AT: Final = 10_000
DEAD_COUNTED: Final = 100_000


@dataclass(frozen=True, kw_only=True)
class Backlog:
    """The unfinished deliveries of a rule. `size` stops at BACKLOG_COUNTED, `dead` at DEAD_COUNTED."""

    size: int = 0
    oldest_at: datetime | None = None
    dead: int = 0

    @property
    def is_cut(self) -> bool:
        """Whether the backlog may be longer than `size`."""
        return self.size >= BACKLOG_COUNTED

    def age_seconds(self, now: datetime) -> float:
        """Return the seconds that the oldest delivery has waited; 0 without deliveries."""
        return max((now - self.oldest_at).total_seconds(), 0.0) if self.oldest_at else 0.0


@dataclass(frozen=True, kw_only=True)
class ThrottleFigures:
    """The throttles of a rule, summed over all living workers. `breaker` is the worst of them."""

    breaker: str = BreakerState.CLOSED
    limit: float | None = None  # calls at once; None: no worker has called it lately
    calls: int = 0
    workers: int = 0
    opened_at: datetime | None = None
    probe_at: datetime | None = None

    @property
    def is_open(self) -> bool:
        """Whether the breaker of a worker is open or half-open."""
        return self.breaker != BreakerState.CLOSED


@dataclass(frozen=True, kw_only=True)
class WorkerFigures:
    """A worker process. `is_alive`: it reported within SILENT_SECONDS."""

    name: str
    host: str
    pid: int
    started_at: datetime
    silent_seconds: float
    calls: int
    stuck_results: int
    dropped_results: int
    open_breakers: int

    @property
    def is_alive(self) -> bool:
        """Whether it reported lately."""
        return self.silent_seconds < SILENT_SECONDS


# The size stops at a bound. The oldest delivery of a lane is its head; deliveries outside lanes are read directly.
BACKLOGS: Final = """
SELECT rule.id,
    (SELECT count(*) FROM (
        (SELECT 1 FROM integrations_delivery
         WHERE rule_id = rule.id AND finished_at IS NULL AND in_lane ORDER BY room_id, id LIMIT %(counted)s)
        UNION ALL
        (SELECT 1 FROM integrations_delivery
         WHERE rule_id = rule.id AND finished_at IS NULL AND NOT in_lane ORDER BY due_at LIMIT %(counted)s)
    ) AS owed),
    least(
        (SELECT min(created_at) FROM (
            SELECT created_at FROM integrations_delivery
            WHERE rule_id = rule.id AND finished_at IS NULL AND NOT in_lane
            ORDER BY due_at LIMIT %(counted)s) AS outside),
        (SELECT min(head.created_at)
         FROM (SELECT room_id FROM integrations_lane
               WHERE rule_id = rule.id AND due_at IS NOT NULL ORDER BY due_at LIMIT %(lanes)s) AS lane
         CROSS JOIN LATERAL (
            SELECT created_at FROM integrations_delivery
            WHERE rule_id = rule.id AND room_id = lane.room_id AND finished_at IS NULL AND in_lane
            ORDER BY id LIMIT 1) AS head)
    )
FROM unnest(%(rules)s::bigint[]) AS rule (id)
"""

DEAD: Final = """
SELECT rule_id, count(*) FROM (
    SELECT rule_id FROM integrations_delivery WHERE state = 'dead' ORDER BY id DESC LIMIT %(counted)s
) AS dead
WHERE rule_id = ANY(%(rules)s) GROUP BY rule_id
"""

_WORKER_FIELDS: Final = (
    "name", "host", "pid", "started_at", "silent_seconds", "calls", "stuck_results", "dropped_results", "open_breakers",
)  # fmt: skip
WORKERS: Final = """
SELECT worker.name, split_part(worker.host, ' pid:', 1), worker.pid, worker.started_at,
    extract(epoch FROM clock_timestamp() - worker.seen_at)::float8, worker.calls,
    worker.stuck_results, worker.dropped_results,
    (SELECT count(*) FROM integrations_rulethrottle AS throttle
     WHERE throttle.worker_id = worker.id AND throttle.breaker <> 'closed')
FROM integrations_workerprocess AS worker
"""

_WORST_FIRST: Final = (BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.CLOSED)


def workers() -> list[WorkerFigures]:
    """Return the worker processes that have a row, the living first."""
    found = [WorkerFigures(**dict(zip(_WORKER_FIELDS, row, strict=True))) for row in fetch(WORKERS)]
    return sorted(found, key=lambda one: (not one.is_alive, one.host, one.pid))


def backlogs(ids: Sequence[int]) -> dict[int, Backlog]:
    """Return the backlog of each of these rules."""
    with transaction.atomic(), connection.cursor() as cursor:
        # With a long backlog the planner would read the whole table, finished deliveries included.
        cursor.execute("SET LOCAL enable_seqscan = off")
        return _read_backlogs(ids)


def _read_backlogs(ids: Sequence[int]) -> dict[int, Backlog]:
    dead = dict(fetch(DEAD, rules=list(ids), counted=DEAD_COUNTED))
    return {
        rule: Backlog(size=min(size, BACKLOG_COUNTED), oldest_at=oldest, dead=dead.get(rule, 0))
        for rule, size, oldest in fetch(BACKLOGS, rules=list(ids), counted=BACKLOG_COUNTED, lanes=LANES_LOOKED_AT)
    }


def throttles(ids: Sequence[int]) -> dict[int, ThrottleFigures]:
    """Return the throttles of these rules in living workers. A rule that no worker reports is missing."""
    alive = {worker.name for worker in workers() if worker.is_alive}
    rows: dict[int, list[RuleThrottle]] = {}
    found = RuleThrottle.objects.filter(rule_id__in=ids, worker__in=WorkerProcess.objects.filter(name__in=alive))
    for row in found:
        rows.setdefault(row.rule_id, []).append(row)
    return {rule: _together(of_rule) for rule, of_rule in rows.items()}


def _together(rows: Sequence[RuleThrottle]) -> ThrottleFigures:
    return ThrottleFigures(
        breaker=next(state for state in _WORST_FIRST if any(row.breaker == state for row in rows)),
        limit=sum(row.limit for row in rows),
        calls=sum(row.calls for row in rows),
        workers=len(rows),
        opened_at=min((row.opened_at for row in rows if row.opened_at), default=None),
        probe_at=min((row.probe_at for row in rows if row.probe_at), default=None),
    )
