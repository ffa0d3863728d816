"""Figures of calls: sums of workers add up, are kept while Postgres is away, and never grow without bound."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection

from integrations.models import IntegrationRule, RuleMinute
from integrations.monitoring import figures, traffic
from integrations.monitoring.traffic import Traffic
from integrations.worker.worker import Worker, make_outgoing
from rooms.database.threads import run
from tests.integrations.receiver import Receiver
from tests.integrations.world import add_room, add_rule, publish
from tests.patience import PATIENCE

pytestmark = pytest.mark.usefixtures("webhooks_only")
AT = datetime(2026, 11, 23, 12, 0, 30, tzinfo=UTC)


def call(of: Traffic, rule_id: int, *, ms: float = 10.0, **brought: Any) -> None:
    of.add(rule_id, seconds=ms / 1000, **({"failed": False, "at": AT} | brought))


def write(of: Traffic) -> None:
    """What a flush writes, in this thread."""
    sums, of._sums = of._sums, {}
    traffic.store(sums)


@pytest.mark.django_db
def test_what_two_workers_counted_in_a_minute_adds_up() -> None:
    rule = add_rule()
    first, second = Traffic(), Traffic()
    for _ in range(90):
        call(first, rule.pk, events=1, verdicts={"publish": 1})
    for _ in range(9):
        call(second, rule.pk, ms=100.0, events=2, verdicts={"publish": 1, "reject": 1})
    call(second, rule.pk, ms=900.0, failed=True, dead=1, error="HTTP 500")
    second.share(rule.pk, at=AT, events=5, shared=5, verdicts={"reject": 5})
    write(first)
    write(second)

    found = figures.of_rule(rule, now=AT + timedelta(seconds=20), minutes=1).recent

    assert (found.calls, found.failed, found.events, found.dead, found.shared) == (100, 1, 113, 1, 5)
    assert found.verdicts == {"publish": 99, "reject": 14}
    assert found.success == 0.99
    assert found.seconds == 50
    assert found.calls_per_second == 2.0
    assert found.p50 is not None and 8 <= found.p50 <= 10
    assert found.p95 is not None and 80 <= found.p95 <= 100
    assert found.within_ms(1.0) == 1000.0


@pytest.mark.django_db
def test_the_total_of_a_rule_is_that_of_all_its_minutes_and_outlives_them() -> None:
    rule = add_rule()
    mine = Traffic()
    for minute in range(3):
        call(mine, rule.pk, at=AT + timedelta(minutes=minute))
        write(mine)
    RuleMinute.objects.exclude(minute=figures.TOTALS_AT).delete()

    found = figures.of_rule(rule, now=AT)

    assert (found.total.calls, found.recent.calls) == (3, 0)


@pytest.mark.django_db
def test_figures_of_a_rule_that_was_removed_meanwhile_are_left_out() -> None:
    rule, gone = add_rule(), add_rule()
    mine = Traffic()
    call(mine, rule.pk)
    call(mine, gone.pk)
    IntegrationRule.objects.filter(pk=gone.pk).delete()
    write(mine)

    assert set(RuleMinute.objects.values_list("rule_id", flat=True)) == {rule.pk}


@pytest.mark.django_db(transaction=True)
async def test_what_could_not_be_written_is_written_later(monkeypatch: pytest.MonkeyPatch) -> None:
    rule = await run(add_rule)
    mine = Traffic()
    store, is_away = traffic.store, True

    def away(sums: traffic.MinuteSums) -> None:
        if is_away:
            raise OperationalError
        store(sums)

    monkeypatch.setattr(traffic, "store", away)
    call(mine, rule.pk)
    await mine.flush()
    call(mine, rule.pk)
    is_away = False
    await mine.flush()
    await mine.flush()

    assert await run(lambda: RuleMinute.objects.get(minute=figures.TOTALS_AT).calls) == 2


async def test_sums_that_wait_for_postgres_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*args: Any, **kwargs: Any) -> None:
        raise OperationalError

    monkeypatch.setattr(traffic, "store", away)
    monkeypatch.setattr(traffic.health, "observe", away)
    monkeypatch.setattr(traffic, "WAITING_MAX", 10)
    mine = Traffic()
    for minute in range(25):
        call(mine, 1, at=AT + timedelta(minutes=minute))
        await mine.flush()

    assert len(mine._sums) == 10
    assert mine.forgotten == 15
    assert min(minute for _, minute in mine._sums) == AT.timestamp() // 60 + 15


@pytest.mark.django_db(transaction=True)
async def test_a_worker_that_is_stopped_writes_its_last_figures() -> None:
    rule = await run(add_rule)
    mine = Traffic()
    running = asyncio.create_task(mine.run())
    await asyncio.sleep(0)
    call(mine, rule.pk)
    running.cancel()
    await asyncio.wait([running])

    assert await run(RuleMinute.objects.count) == 2


@pytest.mark.django_db(transaction=True)
async def test_many_workers_that_write_at_once_wait_for_one_another_and_never_in_a_circle() -> None:
    rules = [await run(add_rule) for _ in range(4)]

    def sums_of(order: list[IntegrationRule]) -> traffic.MinuteSums:
        mine = Traffic()
        for rule in order:
            call(mine, rule.pk)
        return mine._sums

    await asyncio.gather(*(run(traffic.store, sums_of(order)) for order in (rules, rules[::-1]) * 8))

    totals = await run(lambda: set(RuleMinute.objects.values_list("calls", flat=True)))
    assert totals == {16}


@pytest.mark.django_db
def test_sums_are_written_by_one_statement_however_many_rules() -> None:
    rules = [add_rule() for _ in range(5)]
    mine = Traffic()
    for rule in rules:
        call(mine, rule.pk)
    connection.queries_log.clear()
    connection.force_debug_cursor = True
    try:
        write(mine)
        assert len(connection.queries) == 1
    finally:
        connection.force_debug_cursor = False


@pytest.mark.usefixtures("valkey")
@pytest.mark.django_db(transaction=True)
async def test_a_worker_counts_its_calls_and_a_target_that_is_gone_is_not_called_again(receiver: Receiver) -> None:
    receiver.behaviour = lambda request: (410 if request.texts == ["2"] else 200, "")
    rule = await run(add_rule, receiver.url)
    await run(publish, await run(add_room), "1", "2")
    outgoing = make_outgoing()
    worker = Worker(outgoing)
    working = asyncio.create_task(worker.run())
    await receiver.wait_for(2)
    worker.stop()
    await asyncio.wait_for(working, PATIENCE)
    await outgoing.close()
    total = (await run(figures.of_rule, rule, now=datetime.now(UTC))).total

    assert (total.calls, total.failed, total.events, total.dead) == (2, 1, 1, 1)
    assert not (await run(IntegrationRule.objects.get)).enabled
