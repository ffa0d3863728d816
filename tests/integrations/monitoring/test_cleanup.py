"""Old rows go, little by little: what is unfinished stays, dead letters stay longer, totals stay for ever."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction

from integrations.database.advisory_locks import AdvisoryLock
from integrations.models import (
    ApiKey,
    Attempt,
    CallbackUse,
    Delivery,
    DeliveryState,
    IntegrationRule,
    Notice,
    Revocation,
    RuleMinute,
    UsedNonce,
)
from integrations.monitoring import cleanup
from integrations.monitoring.cleanup import Cleanup
from integrations.monitoring.figures import TOTALS_AT
from rooms.database.threads import run
from rooms.models import Room
from tests.integrations.world import add_room, add_rule, now
from tests.patience import PATIENCE

pytestmark = pytest.mark.usefixtures("webhooks_only")
DAY = timedelta(days=1)


def owe(rule: IntegrationRule, room: Room, state: str, age: timedelta) -> Delivery:
    """A delivery that was made, and finished unless it is pending, so long ago; with an attempt."""
    at = now() - age
    finished_at = None if state == DeliveryState.PENDING else at
    delivery = Delivery.objects.create(
        rule=rule, room=room, webhook_id=f"msg_{state}_{age.days}", payload="{}", state=state,
        due_at=at, created_at=at, finished_at=finished_at, attempts=1,
    )  # fmt: skip
    Attempt.objects.create(delivery=delivery, number=1, started_at=at, duration_ms=1.0)
    return delivery


def clean(step: Callable[[datetime], bool]) -> int:
    """Take a step until there is no more to do; return how many it took."""
    steps = 1
    while step(now()):
        steps += 1
        assert steps < 1000
    return steps


@pytest.mark.django_db
def test_finished_deliveries_go_after_a_week_dead_letters_after_a_month_and_unfinished_ones_never() -> None:
    rule, room = add_rule(), add_room()
    for days in (40, 10, 1):
        for state in (DeliveryState.DELIVERED, DeliveryState.CANCELLED, DeliveryState.DEAD, DeliveryState.PENDING):
            owe(rule, room, state, DAY * days)
    clean(Cleanup().clean_deliveries)

    left = set(Delivery.objects.values_list("webhook_id", flat=True))

    assert left == {
        *(f"msg_pending_{days}" for days in (40, 10, 1)),
        "msg_dead_10",
        *(f"msg_{state}_1" for state in ("delivered", "cancelled", "dead")),
    }
    assert Attempt.objects.count() == len(left)


@pytest.mark.django_db
def test_a_round_passes_what_stays_and_ends_at_what_is_young(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("integrations.monitoring.cleanup.CLEANUP_BATCH_ROWS", 5)
    rule, room = add_rule(), add_room()
    for number in range(23):
        owe(rule, room, DeliveryState.DEAD if number % 2 else DeliveryState.DELIVERED, DAY * 10)
    for _ in range(50):
        owe(rule, room, DeliveryState.DELIVERED, timedelta(hours=1))
    cleaning = Cleanup()

    assert clean(cleaning.clean_deliveries) == 5  # of the young ones only those beside the last old ones are seen
    assert cleaning.deleted["deliveries"] == 12
    assert clean(cleaning.clean_deliveries) <= 4  # the next round begins at the oldest again
    assert cleaning.deleted["deliveries"] == 12


@pytest.mark.django_db
def test_figures_of_old_minutes_go_and_totals_stay() -> None:
    rule = add_rule()
    for age in (0, 6, 8, 100):
        RuleMinute.objects.create(rule=rule, minute=now() - DAY * age)
    RuleMinute.objects.create(rule=rule, minute=TOTALS_AT)
    clean(Cleanup().clean_minutes)

    assert RuleMinute.objects.count() == 3
    assert RuleMinute.objects.filter(minute=TOTALS_AT).exists()


@pytest.mark.django_db
def test_uses_of_callbacks_revocations_nonces_and_dismissed_notices_go_when_their_time_is_over() -> None:
    key = ApiKey.objects.create(app_id="a", key_id="k", sealed_secret=b"", capability={})
    moment = now()
    for days in (-40, -1, 1):
        at = moment + DAY * days
        CallbackUse.objects.create(result="refused", at=at)
        Revocation.objects.create(
            key=key, subject="clientId", value=f"v{days}", issued_before=at, applies_at=at, expires_at=at
        )
        UsedNonce.objects.create(key=key, nonce=f"n{days}", expires_at=at)
        Notice.objects.create(level="info", title="t", created_at=at, dismissed_at=at)
    Notice.objects.create(level="info", title="open", created_at=moment - DAY * 400)
    cleaning = Cleanup()
    for step in cleaning.steps:
        clean(step)

    counts = [model.objects.count() for model in (CallbackUse, Revocation, UsedNonce, Notice)]
    assert counts == [2, 1, 1, 3]
    assert dict(cleaning.deleted) == {
        "deliveries": 0, "minutes": 0, "callbacks": 1, "revocations": 2, "nonces": 2, "notices": 1,
    }  # fmt: skip


@pytest.mark.django_db(transaction=True)
async def test_one_worker_cleans_at_a_time() -> None:
    done: list[bool] = []

    def is_done(moment: datetime) -> bool:
        done.append(True)
        return True

    def hold(taken: Any, released: Any) -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [AdvisoryLock.CLEANING.value])
            taken.set()
            released.wait(10)

    taken, released = threading.Event(), threading.Event()
    holding = asyncio.create_task(run(hold, taken, released))
    await asyncio.to_thread(taken.wait, 10)
    assert not await run(cleanup._alone, is_done, datetime.now(UTC))
    released.set()
    await holding
    assert await run(cleanup._alone, is_done, datetime.now(UTC))

    assert len(done) == 1


@pytest.mark.django_db(transaction=True)
async def test_trouble_in_one_table_does_not_keep_others_from_being_cleaned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("integrations.monitoring.cleanup.CLEANUP_SECONDS", 0.0)
    cleaned = asyncio.Event()
    loop = asyncio.get_running_loop()

    def fail(self: Cleanup, moment: datetime) -> bool:
        raise ValueError

    def succeed(self: Cleanup, moment: datetime) -> bool:
        loop.call_soon_threadsafe(cleaned.set)
        return False

    monkeypatch.setattr(Cleanup, "clean_deliveries", fail)
    monkeypatch.setattr(Cleanup, "clean_notices", succeed)
    running = asyncio.create_task(Cleanup().run())
    await asyncio.wait_for(cleaned.wait(), PATIENCE)
    running.cancel()
    await asyncio.wait([running])
