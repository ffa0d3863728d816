"""The figures of rules and workers, for the admin, metrics and commands: from sums by minute, backlog and live state.

Every query is bounded: by minutes, by BACKLOG_COUNTED, or by the number of rules and workers. `now` is passed in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from integrations.models import IntegrationRule, RuleHealth, RuleMinute
from integrations.monitoring import latency, live_state
from integrations.monitoring.live_state import BACKLOG_COUNTED, Backlog, ThrottleFigures, WorkerFigures, workers

__all__ = [
    "BACKLOG_COUNTED",
    "Backlog",
    "Point",
    "RuleFigures",
    "Sums",
    "ThrottleFigures",
    "WorkerFigures",
    "of_rule",
    "of_rules",
    "series",
    "workers",
]

# The minute of the row with a rule's totals, which is never deleted.
TOTALS_AT: Final = datetime(1970, 1, 1, tzinfo=UTC)
MINUTE: Final = timedelta(minutes=1)


@dataclass(frozen=True, kw_only=True)
class Sums:
    """The sums of calls over `seconds`."""

    seconds: float
    calls: int = 0
    failed: int = 0
    events: int = 0
    dead: int = 0
    shared: int = 0
    verdicts: Mapping[str, int] = field(default_factory=dict)
    buckets: Sequence[int] = ()

    @property
    def calls_per_second(self) -> float:
        """Calls a second, failed ones included."""
        return self.calls / self.seconds if self.seconds else 0.0

    @property
    def events_per_second(self) -> float:
        """Delivered events a second."""
        return self.events / self.seconds if self.seconds else 0.0

    @property
    def success(self) -> float | None:
        """The share of calls that succeeded, 0 to 1; None without calls."""
        return (self.calls - self.failed) / self.calls if self.calls else None

    def within_ms(self, share: float) -> float | None:
        """Return the milliseconds within which this share (0 to 1) of the calls ended; None without calls."""
        return latency.quantile(self.buckets, share)

    @property
    def p50(self) -> float | None:
        """The median call in milliseconds."""
        return self.within_ms(0.5)

    @property
    def p95(self) -> float | None:
        """Milliseconds within which 95 of 100 calls ended."""
        return self.within_ms(0.95)

    @property
    def p99(self) -> float | None:
        """Milliseconds within which 99 of 100 calls ended."""
        return self.within_ms(0.99)


@dataclass(frozen=True, kw_only=True)
class RuleFigures:
    """The figures of one rule. `recent`: the last minutes; `total`: since the rule was made."""

    rule: IntegrationRule
    recent: Sums
    total: Sums
    backlog: Backlog
    throttle: ThrottleFigures
    failing_since: datetime | None = None
    last_error: str = ""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One time of a series, with its sums."""

    at: datetime
    sums: Sums


def of_rules(*, now: datetime, minutes: int = 15) -> list[RuleFigures]:
    """Return the figures of all rules, in the rules' order, with a fixed number of queries."""
    return _figures(list(IntegrationRule.objects.select_related("shadow_of")), now=now, minutes=minutes)


def of_rule(rule: IntegrationRule, *, now: datetime, minutes: int = 15) -> RuleFigures:
    """Return the figures of one rule."""
    return _figures([rule], now=now, minutes=minutes)[0]


def series(rule_id: int, *, now: datetime, hours: int = 1) -> list[Point]:
    """Return evenly spaced sums up to now, for a chart: by the minute for an hour, by 10 minutes for a day.

    The last step has not ended: its `seconds` are those that have passed.
    """
    step = MINUTE * (1 if hours <= 1 else 10 if hours <= 24 else 60)
    last = _floor(now, step)
    count = int(timedelta(hours=hours) / step)
    first = last - step * (count - 1)
    rows: dict[datetime, list[RuleMinute]] = {}
    for row in RuleMinute.objects.filter(rule_id=rule_id, minute__gte=first, minute__lte=now).order_by():
        rows.setdefault(_floor(row.minute, step), []).append(row)
    return [
        Point(at=at, sums=_sum(rows.get(at, ()), min(step, now - at).total_seconds()))
        for at in (first + step * place for place in range(count))
    ]


def _figures(rules: Sequence[IntegrationRule], *, now: datetime, minutes: int) -> list[RuleFigures]:
    ids = [rule.pk for rule in rules]
    since = _floor(now, MINUTE) - MINUTE * (minutes - 1)
    recent, totals = _sums(ids, since, now), _sums(ids, TOTALS_AT, TOTALS_AT)
    backlogs, throttles = live_state.backlogs(ids), live_state.throttles(ids)
    healths = RuleHealth.objects.in_bulk(ids)
    return [
        RuleFigures(
            rule=rule,
            recent=recent.get(rule.pk) or Sums(seconds=(now - since).total_seconds()),
            total=totals.get(rule.pk) or Sums(seconds=0.0),
            backlog=backlogs[rule.pk],
            throttle=throttles.get(rule.pk) or ThrottleFigures(),
            failing_since=health.failing_since if (health := healths.get(rule.pk)) else None,
            last_error=health.last_error if health else "",
        )
        for rule in rules
    ]


def _sums(ids: Sequence[int], since: datetime, until: datetime) -> dict[int, Sums]:
    rows: dict[int, list[RuleMinute]] = {}
    for row in RuleMinute.objects.filter(rule_id__in=ids, minute__gte=since, minute__lte=until).order_by():
        rows.setdefault(row.rule_id, []).append(row)
    return {rule: _sum(of_rule, (until - since).total_seconds()) for rule, of_rule in rows.items()}


def _sum(rows: Iterable[RuleMinute], seconds: float) -> Sums:
    rows = list(rows)
    verdicts: Counter[str] = Counter()
    for row in rows:
        verdicts.update(row.verdicts)
    return Sums(
        seconds=seconds,
        calls=sum(row.calls for row in rows),
        failed=sum(row.failed for row in rows),
        events=sum(row.events for row in rows),
        dead=sum(row.dead for row in rows),
        shared=sum(row.shared for row in rows),
        verdicts=dict(verdicts),
        buckets=latency.add_up(row.buckets for row in rows),
    )


def _floor(at: datetime, step: timedelta) -> datetime:
    return at - (at - TOTALS_AT) % step
