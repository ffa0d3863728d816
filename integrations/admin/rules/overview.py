"""The content of a rule's page: figures and charts of its calls, its backlog, its last deliveries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.utils.safestring import SafeString, mark_safe

from integrations.admin.deliveries.request_view import address_of
from integrations.admin.tones import BREAKER_TONES, VERDICT_TONES
from integrations.models import Attempt, BreakerState, Delivery, IntegrationRule, RuleMinute, RuleThrottle, When
from integrations.monitoring import charts, figures
from integrations.monitoring.charts import Line
from integrations.monitoring.figures import Point, RuleFigures
from integrations.monitoring.live_state import Backlog
from rooms.admin.journey import Tone
from rooms.admin.waterfall import Fact, duration

SPANS = ((1, "1 hour"), (24, "24 hours"))
RECENT_MINUTES = 15
SPARK_MINUTES = 60
FRESH_SECONDS = 20  # a step younger than this is not drawn: workers report with some delay
LAST_DELIVERIES = 15
SHOWN_WORKERS = 50
# Shares of successful calls: green from the first on, red below the second.
GOOD_SUCCESS, POOR_SUCCESS = 0.99, 0.9


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart with its title and its legend."""

    title: str
    svg: SafeString
    legend: SafeString


@dataclass(frozen=True, kw_only=True)
class DeliveryRow:
    """A row of the table of the last deliveries, with the time of its last call."""

    delivery: Delivery
    took: str


@dataclass(frozen=True, kw_only=True)
class VerdictShare:
    """The number of verdicts with one action. `width`: their share in per cent."""

    label: str
    tone: Tone
    count: int
    percent: str
    width: float


@dataclass(frozen=True, kw_only=True)
class WorkerRow:
    """The throttle of the rule in one worker, as shown."""

    name: str
    breaker: str
    tone: Tone
    calls: int
    limit: str
    since: str


def context_of(rule: IntegrationRule, *, now: datetime, hours: int, with_deliveries: bool) -> dict[str, Any]:
    """Return the variables of the template, with bounded queries."""
    found = figures.of_rule(rule, now=now, minutes=RECENT_MINUTES)
    return {
        "rule": rule,
        "figures": found,
        "address": address_of(rule),
        "facts": facts_of(found, now),
        "alerts": _alerts(found, now),
        "charts": _charts(rule, figures.series(rule.pk, now=now, hours=hours)),
        "spans": [{"hours": number, "label": label, "is_chosen": number == hours} for number, label in SPANS],
        "parts": _parts(found),
        "workers": _workers(rule, now),
        "recent_minutes": RECENT_MINUTES,
        "with_deliveries": with_deliveries,
        "rows": _last_deliveries(rule) if with_deliveries else [],
        "shadows": list(rule.shadows.order_by("name")[:20]),
        "overlap": overlap_text(),
        "secret_until": rule.former_secret_until
        if rule.former_secret_until and rule.former_secret_until > now
        else None,
    }


def facts_of(found: RuleFigures, now: datetime) -> list[Fact]:
    """Return the figures at the top of the page."""
    recent, backlog = found.recent, found.backlog
    facts = [
        Fact(label=f"calls a second, last {RECENT_MINUTES} min", value=rate(recent.calls_per_second)),
        Fact(label="succeeded", value=share(recent.success), tone=success_tone(recent.success)),
        Fact(label="p50 of calls", value=latency(recent.p50)),
        Fact(label="p95", value=latency(recent.p95)),
        Fact(label="p99", value=latency(recent.p99)),
        Fact(label="breaker", value=found.throttle.breaker, tone=BREAKER_TONES[found.throttle.breaker]),
        Fact(label="calls at once, of at most", value=_calls(found)),
        Fact(label=_backlog_label(found, now), value=owed(backlog), tone=Tone.WAITING if backlog.size else Tone.GOOD),
        Fact(label="dead letters", value=f"{backlog.dead:,}", tone=Tone.BAD if backlog.dead else Tone.GOOD),
    ]
    if found.rule.when == When.BEFORE:
        facts.append(Fact(label="verdicts shared", value=share(_shared(found))))
    return facts


def calls_by_minute(rule_ids: Sequence[int], now: datetime) -> dict[int, list[int]]:
    """Return the number of calls of each rule in each whole minute of the last hour, the latest last."""
    end = now.replace(second=0, microsecond=0)
    start = end - timedelta(minutes=SPARK_MINUTES)
    found = {rule: [0] * SPARK_MINUTES for rule in rule_ids}
    rows = RuleMinute.objects.filter(rule_id__in=rule_ids, minute__gte=start, minute__lt=end)
    for rule, minute, calls in rows.order_by().values_list("rule_id", "minute", "calls"):
        found[rule][int((minute - start) / timedelta(minutes=1))] = calls
    return found


def overlap_text() -> str:
    """Return the overlap of a secret's rotation as text."""
    return duration(settings.RULE_SECRET_OVERLAP_SECONDS * 1000)


def rate(number: float) -> str:
    """Return a rate a second as text."""
    return f"{number:,.0f}" if number >= 99.5 or not number else f"{number:.1f}" if number >= 0.95 else f"{number:.2g}"


def share(part: float | None) -> str:
    """Return a share in per cent as text. Only exactly 1 is shown as 100%."""
    if part is None:
        return "–"
    if part in (0.0, 1.0):
        return f"{part:.0%}"
    percent = min(max(part * 100, 0.01), 99.99)
    return f"{percent:.2f}%" if percent > 99 else f"{percent:.2g}%" if percent < 1 else f"{percent:.1f}%"


def success_tone(part: float | None) -> Tone:
    """Return the colour of a share of successes."""
    if part is None:
        return Tone.PLAIN
    return Tone.GOOD if part >= GOOD_SUCCESS else Tone.WAITING if part >= POOR_SUCCESS else Tone.BAD


def latency(ms: float | None) -> str:
    """Return a percentile of the times of calls as text."""
    return "–" if ms is None else duration(ms)


def owed(backlog: Backlog) -> str:
    """Return the size of a backlog as text."""
    return f"{backlog.size:,}{'+' if backlog.is_cut else ''}"


def sparkline(found: RuleFigures, calls: list[int]) -> SafeString:
    """Return a small chart of a rule's calls of the last hour."""
    tone = "bad" if found.throttle.is_open else "1"
    # charts has escaped all texts.
    return mark_safe(charts.sparkline(calls, label=f"calls a minute of {found.rule.name}", tone=tone))


def _calls(found: RuleFigures) -> str:
    limit = found.throttle.limit
    return "–" if limit is None else f"{found.throttle.calls} / {limit:.0f}"


def _backlog_label(found: RuleFigures, now: datetime) -> str:
    age = found.backlog.age_seconds(now)
    return f"owed, the oldest for {duration(age * 1000)}" if age else "owed"


def _shared(found: RuleFigures) -> float | None:
    total = sum(found.recent.verdicts.values())
    return found.recent.shared / total if total else None


def _parts(found: RuleFigures) -> list[VerdictShare]:
    """Return the number of recent verdicts by action."""
    said = found.recent.verdicts
    total = sum(said.values())
    if not total:
        return []
    return [
        VerdictShare(label=action, tone=tone, count=said.get(action, 0), percent=share(said.get(action, 0) / total),
             width=round(said.get(action, 0) / total * 100, 2))
        for action, tone in VERDICT_TONES.items()
    ]  # fmt: skip


def _alerts(found: RuleFigures, now: datetime) -> list[dict[str, Any]]:
    """Return the warnings at the top of the page."""
    alerts = []
    if not found.rule.enabled:
        alerts.append({"tone": Tone.WAITING, "text": "This rule is off. What it is owed is kept until it is on again."})
    throttle = found.throttle
    if throttle.breaker == BreakerState.OPEN:
        probe = ""
        if throttle.probe_at is not None:
            probe = f" The next probe is {f'in {_in(throttle.probe_at, now)}' if throttle.probe_at > now else 'due'}."
        since = f" for {_in(now, throttle.opened_at)}" if throttle.opened_at else ""
        alerts.append(
            {"tone": Tone.BAD, "text": f"The circuit breaker has been open{since}: nothing is called.{probe}"}
        )
    if found.failing_since is not None:
        text = f"No call has succeeded for {_in(now, found.failing_since)}. {found.last_error}"
        alerts.append({"tone": Tone.BAD, "text": text})
    return alerts


def _in(later: datetime | None, earlier: datetime | None) -> str:
    assert later is not None and earlier is not None
    return duration(max(0.0, (later - earlier).total_seconds()) * 1000)


def _charts(rule: IntegrationRule, points: Sequence[Point]) -> list[Chart]:
    if points and points[-1].sums.seconds < FRESH_SECONDS:
        points = points[:-1]
    times = [point.at for point in points]
    calls = [
        Line("succeeded", [_each(point, point.sums.calls - point.sums.failed) for point in points], "good"),
        Line("failed", [_each(point, point.sums.failed) for point in points], "bad"),
    ]
    latencies = [
        Line("p99", [point.sums.p99 for point in points], "3"),
        Line("p95", [point.sums.p95 for point in points], "2"),
        Line("p50", [point.sums.p50 for point in points], "1"),
    ]
    drawn = [
        _chart("Calls a second", times, calls, unit="", stacked=True),
        _chart("Time of a call", times, latencies, unit="ms", stacked=False),
    ]
    if rule.when == When.BEFORE:
        drawn.append(_chart("Verdicts a second", times, _verdict_lines(points), unit="", stacked=True))
    return drawn


def _verdict_lines(points: Sequence[Point]) -> list[Line]:
    tones = {"publish": "good", "replace": "1", "hold": "2", "reject": "bad"}
    return [
        Line(action, [_each(point, point.sums.verdicts.get(action, 0)) for point in points], tones[action])
        for action in VERDICT_TONES
    ]


def _each(point: Point, number: int) -> float:
    return number / point.sums.seconds if point.sums.seconds else 0.0


def _chart(title: str, times: Sequence[datetime], lines: Sequence[Line], *, unit: str, stacked: bool) -> Chart:
    svg = charts.time_series(title, times, lines, unit=unit, stacked=stacked)
    # charts has escaped all texts.
    return Chart(title=title, svg=mark_safe(svg), legend=mark_safe(charts.legend(lines)))


def _workers(rule: IntegrationRule, now: datetime) -> list[WorkerRow]:
    """Return the throttles of the rule in living workers."""
    alive = [one.name for one in figures.workers() if one.is_alive][:SHOWN_WORKERS]
    found = RuleThrottle.objects.filter(rule=rule, worker__name__in=alive).select_related("worker")
    return [
        WorkerRow(
            name=one.worker.name,
            breaker=one.breaker,
            tone=BREAKER_TONES[one.breaker],
            calls=one.calls,
            limit=f"{one.limit:.0f}",
            since=_in(now, one.opened_at) if one.opened_at and one.breaker != BreakerState.CLOSED else "",
        )
        for one in found.order_by("worker__name")
    ]


def _last_deliveries(rule: IntegrationRule) -> list[DeliveryRow]:
    """Return the newest deliveries, each with the time of its last call."""
    found = Delivery.objects.filter(rule=rule).select_related("room", "rule").defer("payload")
    newest = list(found.order_by("-id")[:LAST_DELIVERIES])
    last = {
        (attempt.delivery_id, attempt.number): attempt.duration_ms
        for attempt in Attempt.objects.filter(delivery_id__in=[one.pk for one in newest])
        .defer("response")
        .order_by("-number")[: LAST_DELIVERIES * 20]
    }
    return [
        DeliveryRow(delivery=one, took=duration(ms) if (ms := last.get((one.pk, one.attempts))) is not None else "")
        for one in newest
    ]
