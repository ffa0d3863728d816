"""Figures for people: series without holes, backlogs with their age, breakers of living workers."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from integrations.models import (
    Delivery,
    DeliveryState,
    IntegrationRule,
    RuleHealth,
    RuleMinute,
    RuleThrottle,
    WorkerProcess,
)
from integrations.monitoring import figures, live_state
from tests.integrations.world import add_room, add_rule, claim, now, publish
from tests.patience import PATIENCE

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("webhooks_only")]
NOON = datetime(2026, 11, 23, 12, 0, 30, tzinfo=UTC)


def minute(rule: IntegrationRule, at: datetime, **sums: Any) -> None:
    RuleMinute.objects.create(rule=rule, minute=at.replace(second=0, microsecond=0), **sums)


def add_worker(name: str, *, silent: float = 0.0) -> WorkerProcess:
    WorkerProcess.objects.create(name=name, host="here", pid=len(name))
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE integrations_workerprocess SET seen_at = clock_timestamp() - %s * interval '1 second' "
            "WHERE name = %s",
            [silent, name],
        )
    return WorkerProcess.objects.get(name=name)


def test_a_series_has_a_point_for_each_minute_and_zeros_where_nothing_was_called() -> None:
    rule, other = add_rule(), add_rule()
    minute(rule, NOON, calls=60, failed=6)
    minute(rule, NOON - timedelta(minutes=59), calls=1)
    minute(rule, NOON - timedelta(minutes=60), calls=1000)
    minute(other, NOON, calls=1000)
    points = figures.series(rule.pk, now=NOON, hours=1)

    assert [point.sums.calls for point in points] == [1] + [0] * 58 + [60]
    assert {after.at - before.at for before, after in itertools.pairwise(points)} == {timedelta(minutes=1)}
    assert points[-1].sums.calls_per_second == 2.0  # half a minute has passed
    assert points[-1].sums.success == 0.9
    assert points[1].sums.success is None and points[1].sums.p99 is None


def test_a_day_is_told_in_steps_of_ten_minutes() -> None:
    rule = add_rule()
    for ago in range(0, 24 * 60, 5):
        minute(rule, NOON - timedelta(minutes=ago), calls=300)
    points = figures.series(rule.pk, now=NOON, hours=24)

    assert len(points) == 144
    assert {point.sums.calls for point in points[1:-1]} == {600}
    assert points[5].sums.calls_per_second == 1.0


def test_the_backlog_is_what_is_unfinished_in_lanes_and_outside() -> None:
    told, asked, idle = add_rule(), add_rule(when="before"), add_rule(room_filter="^nowhere$")
    IntegrationRule.objects.filter(pk=asked.pk).update(enabled=False)
    publish(add_room("a"), "1", "2")
    IntegrationRule.objects.filter(pk=asked.pk).update(enabled=True)
    publish(add_room("b"), "3")
    backlogs = {one.rule.pk: one.backlog for one in figures.of_rules(now=now())}

    assert {rule.pk: backlogs[rule.pk].size for rule in (told, asked, idle)} == {told.pk: 2, asked.pk: 1, idle.pk: 0}
    assert backlogs[asked.pk].oldest_at == Delivery.objects.get(rule=asked).created_at
    assert backlogs[idle.pk].age_seconds(now()) == 0


def test_the_backlog_of_lanes_is_as_old_as_their_oldest_head() -> None:
    rule = add_rule()
    for name in ("a", "b"):
        publish(add_room(name), "1", "2")
    first = Delivery.objects.order_by("id").first()
    assert first is not None
    Delivery.objects.filter(pk=first.pk).update(created_at=now() - timedelta(minutes=7))
    claim()
    backlog = figures.of_rule(rule, now=now()).backlog

    assert (backlog.size, backlog.is_cut) == (4, False)
    assert 419 < backlog.age_seconds(now()) < 420 + PATIENCE


def test_a_long_backlog_is_counted_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_state, "BACKLOG_COUNTED", 3)
    rule = add_rule()
    publish(add_room(), *"12345")
    backlog = figures.of_rule(rule, now=now()).backlog

    assert (backlog.size, backlog.is_cut) == (3, True)


def test_dead_letters_are_counted_by_rule() -> None:
    rule, other = add_rule(), add_rule()
    publish(add_room(), "1", "2")
    Delivery.objects.filter(rule=rule).update(state=DeliveryState.DEAD, finished_at=now())
    found = {one.rule.pk: one.backlog.dead for one in figures.of_rules(now=now())}

    assert found == {rule.pk: 2, other.pk: 0}


def test_the_breaker_is_that_of_the_worst_off_living_worker_and_limits_add_up() -> None:
    rule, other = add_rule(), add_rule()
    since = now()
    workers = [add_worker("one"), add_worker("other"), add_worker("gone", silent=60)]
    for worker, breaker, limit in zip(workers, ("closed", "open", "half-open"), (4, 1, 9), strict=True):
        RuleThrottle.objects.create(
            worker=worker, rule=rule, breaker=breaker, limit=limit, calls=1, opened_at=since if limit == 1 else None
        )
    found = figures.of_rule(rule, now=since).throttle

    assert (found.breaker, found.limit, found.calls, found.workers) == ("open", 5.0, 2, 2)
    assert found.is_open and found.opened_at == since
    assert figures.of_rule(other, now=since).throttle == live_state.ThrottleFigures()


def test_workers_that_fell_silent_are_told_apart_from_the_living() -> None:
    gone, here = add_worker("gone", silent=60), add_worker("here")
    RuleThrottle.objects.create(worker=here, rule=add_rule(), breaker="open", limit=1)
    found = figures.workers()

    assert [(one.name, one.is_alive, one.open_breakers) for one in found] == [("here", True, 1), ("gone", False, 0)]
    assert 59 < found[1].silent_seconds < 60 + PATIENCE
    assert gone.pid == found[1].pid


def test_however_many_rules_the_figures_are_a_fixed_number_of_queries() -> None:
    add_rule()
    with CaptureQueriesContext(
        connection,
    ) as few:
        figures.of_rules(now=now())
    for _ in range(20):
        add_rule()
    with CaptureQueriesContext(connection) as many:
        figures.of_rules(now=now())

    assert len(few) == len(many) <= 12


# --- manage.py rule status --------------------------------------------------------------------------------


def printed(*arguments: str) -> str:
    out = StringIO()
    call_command("rule", "status", *arguments, stdout=out)
    return out.getvalue()


def test_the_status_of_rules_is_a_table_that_ends_with_what_is_wrong() -> None:
    rule = add_rule(name="orders")
    minute(rule, now(), calls=900, failed=9, buckets=[0, 0, 0, 0, 900])
    RuleHealth.objects.create(rule=rule, failing_since=NOON, last_error="HTTP 503")
    publish(add_room(), "1", "2")
    head, row, trouble, workers = printed().splitlines()

    assert head.split()[:3] == ["rule", "state", "calls/s"]
    assert row.split()[:2] == ["orders", "on"] and "99%" in row and row.split()[-2:] == ["closed", "-"]
    assert trouble == "orders: every call has failed since 2026-11-23 12:00 UTC: HTTP 503"
    assert workers == "0 workers alive: nothing is delivered."


def test_the_status_of_rules_is_json_for_programs() -> None:
    add_rule(name="orders")
    add_worker("one")
    publish(add_room(), "1", "2")
    shown = json.loads(printed("--json"))

    assert (shown["rules"][0]["name"], shown["rules"][0]["backlog"], shown["rules"][0]["success"]) == (
        "orders",
        2,
        None,
    )
    assert [worker["alive"] for worker in shown["workers"]] == [True]


def test_without_rules_the_status_says_how_to_make_one() -> None:
    assert "rule add" in printed()
