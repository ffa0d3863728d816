"""The output of `manage.py rule status`: a table for people, or JSON for programs. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from integrations.monitoring.charts import short
from integrations.monitoring.figures import RuleFigures, WorkerFigures

HEAD = ("rule", "state", "calls/s", "success", "p50", "p95", "p99", "backlog", "oldest", "dead", "breaker", "limit")


def describe(one: RuleFigures, *, now: datetime) -> dict[str, Any]:
    """Return a rule's figures for JSON. The names say which times are in milliseconds or seconds."""
    return {
        "name": one.rule.name,
        "enabled": one.rule.enabled,
        "when": one.rule.when,
        "callsPerSecond": round(one.recent.calls_per_second, 3),
        "eventsPerSecond": round(one.recent.events_per_second, 3),
        "success": None if one.recent.success is None else round(one.recent.success, 4),
        "p50Ms": _rounded(one.recent.p50),
        "p95Ms": _rounded(one.recent.p95),
        "p99Ms": _rounded(one.recent.p99),
        "verdicts": dict(one.recent.verdicts),
        "sharedVerdicts": one.recent.shared,
        "backlog": one.backlog.size,
        "backlogIsCut": one.backlog.is_cut,
        "oldestSeconds": round(one.backlog.age_seconds(now), 1),
        "deadLetters": one.backlog.dead,
        "breaker": one.throttle.breaker,
        "limit": None if one.throttle.limit is None else round(one.throttle.limit, 1),
        "callsUnderWay": one.throttle.calls,
        "failingSince": one.failing_since.isoformat() if one.failing_since else None,
        "lastError": one.last_error if one.failing_since else "",
        "totalCalls": one.total.calls,
        "totalEvents": one.total.events,
    }


def describe_worker(one: WorkerFigures) -> dict[str, Any]:
    """Return a worker's figures for JSON."""
    return {
        "name": one.name,
        "host": one.host,
        "pid": one.pid,
        "alive": one.is_alive,
        "silentSeconds": round(one.silent_seconds, 1),
        "callsUnderWay": one.calls,
        "openBreakers": one.open_breakers,
    }


def table(rules: Sequence[RuleFigures], workers: Sequence[WorkerFigures], *, now: datetime) -> str:
    """Return a table of rules, a line about each failing rule, and a line about the workers."""
    if not rules:
        return "There are no rules. `manage.py rule add` makes one."
    rows = [HEAD, *(_row(one, now) for one in rules)]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    lines += [
        f"{one.rule.name}: every call has failed since {one.failing_since:%Y-%m-%d %H:%M} UTC: {one.last_error}"
        for one in rules
        if one.failing_since
    ]
    alive = sum(one.is_alive for one in workers)
    lines.append(f"{alive} worker{'' if alive == 1 else 's'} alive" + ("" if alive else ": nothing is delivered") + ".")
    return "\n".join(lines)


def _row(one: RuleFigures, now: datetime) -> tuple[str, ...]:
    recent, backlog = one.recent, one.backlog
    return (
        one.rule.name,
        "on" if one.rule.enabled else "off",
        short(recent.calls_per_second),
        "-" if recent.success is None else short(recent.success * 100, "%"),
        *("-" if value is None else short(value, "ms") for value in (recent.p50, recent.p95, recent.p99)),
        f"{short(backlog.size)}{'+' if backlog.is_cut else ''}",
        short(backlog.age_seconds(now) * 1000, "ms") if backlog.size else "-",
        short(backlog.dead),
        one.throttle.breaker,
        "-" if one.throttle.limit is None else short(one.throttle.limit),
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
