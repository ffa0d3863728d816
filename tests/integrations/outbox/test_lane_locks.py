"""Publishing and recording take the locks of lanes in one order, so that neither waits for the other crosswise."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection, transaction

from integrations import outbox
from integrations.models import Delivery, Lane
from tests.integrations.world import add_room, add_rule, claim, now, publish
from tests.patience import PATIENCE

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("webhooks_only")]

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
LOCK = "SELECT FROM integrations_lane WHERE rule_id = %s FOR NO KEY UPDATE NOWAIT"


def until_it_waits(work: Future[None]) -> None:
    deadline = time.monotonic() + PATIENCE
    with connection.cursor() as cursor:
        while time.monotonic() < deadline:
            assert not work.done(), work.result()
            # In a transaction Postgres keeps the list of sessions, without one that begins after the first look.
            cursor.execute("SELECT pg_stat_clear_snapshot()")
            cursor.execute(WAITING)
            if cursor.fetchone()[0]:
                return
            time.sleep(0.01)
    raise TimeoutError


def publish_and_close(room: Any) -> None:
    try:
        publish(room, "second")
    finally:
        connection.close()


def test_a_transaction_that_tells_in_steps_holds_no_lane_while_it_waits_for_an_earlier_one() -> None:
    told_last, told_first = add_rule(), add_rule(events=["channel.message.accepted"])
    room = add_room()
    publish(room, "first")
    assert Lane.objects.count() == 2

    with ThreadPoolExecutor(1) as thread:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(LOCK, [told_last.pk])
            publishing = thread.submit(publish_and_close, room)
            until_it_waits(publishing)
            # A worker that records both lanes goes on to the next one; it would find it held by who waits for it.
            cursor.execute(LOCK, [told_first.pk])
        publishing.result(timeout=PATIENCE)

    assert Delivery.objects.count() == 4


def test_what_a_dead_worker_had_is_due_at_once_and_what_another_has_claimed_since_is_left_to_it() -> None:
    add_rule()
    add_rule()
    for name in ("a", "b"):
        publish(add_room(name), "text")
    assert len(claim("dead")) == 4
    assert claim("other") == []

    outbox.reclaim(["dead"], now=now())
    assert len(claim("other")) == 4
    outbox.reclaim(["dead"], now=now())

    assert set(Lane.objects.values_list("owner", flat=True)) == {"other"}
