"""What is owed: written with its event, taken by one worker at a time, in order, and never forgotten."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from integrations import outbox
from integrations.models import Attempt, Delivery, DeliveryState, IntegrationRule, Lane
from integrations.outbox import Claim, queries
from integrations.outbox.conclusions import CallReport, Conclusion, Fate
from integrations.rules import rules
from rooms.log import signals
from rooms.models import Message
from rooms.review import decide
from rooms.review.contract import Decision, Verdict, VerdictAction
from tests.integrations.world import add_room, add_rule, claim, now, publish, texts_of
from tests.patience import PATIENCE

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("webhooks_only")]


def report(of: Claim, fate: Fate = Fate.DELIVERED, *, wait: float = 0.0, **changes: Any) -> CallReport:
    """What a call of a claim brought."""
    due_at = now() + timedelta(seconds=wait if fate is Fate.RETRY else 0)
    conclusions = [Conclusion(delivery=one, fate=fate, due_at=due_at, status=200, **changes) for one in of.deliveries]
    return CallReport(lane=of.lane, conclusions=conclusions, started_at=now(), duration_ms=1.0)


def record(of: Claim, fate: Fate = Fate.DELIVERED, *, owner: str = "worker", wait: float = 0.0, **changes: Any) -> int:
    return outbox.record_lanes([report(of, fate, wait=wait, **changes)], owner=owner, now=now()).kept


def states() -> list[str]:
    return list(Delivery.objects.order_by("id").values_list("state", flat=True))


# --- Owing ------------------------------------------------------------------------------------------------


def test_a_delivery_is_written_for_each_message_and_each_rule_that_concerns_its_room() -> None:
    chat, other = add_rule(room_filter="^chat:"), add_rule(room_filter="other")
    publish(add_room("chat:from-clients"), "a", "b")
    publish(add_room("elsewhere"), "c")

    assert Delivery.objects.filter(rule=chat).count() == 2
    assert not Delivery.objects.filter(rule=other).exists()
    assert all(delivery.serial > 0 and '"data":"' in delivery.payload for delivery in Delivery.objects.all())


def test_a_publish_that_fails_owes_nothing() -> None:
    add_rule()

    def fail(**kwargs: Any) -> None:
        raise RuntimeError

    room = add_room()
    signals.messages_published.connect(fail)
    try:
        with pytest.raises(RuntimeError):
            publish(room, "a")
    finally:
        signals.messages_published.disconnect(fail)

    assert not Delivery.objects.exists()
    assert not Message.objects.exists()


def test_a_disabled_rule_hears_of_nothing_and_decides_nothing() -> None:
    for when in ("before", "after"):
        rules.switch(add_rule(when=when).name, enabled=False, now=now())

    assert publish(add_room(), "a")[0].kind == "published"
    assert not Delivery.objects.exists()


def test_the_database_refuses_a_second_delivery_of_one_event_to_one_rule() -> None:
    add_rule()
    publish(add_room(), "a")
    delivery = Delivery.objects.get()
    delivery.pk = None

    with pytest.raises(IntegrityError), transaction.atomic():
        delivery.save(force_insert=True)


def test_owing_costs_the_same_queries_for_one_message_and_for_fifty() -> None:
    for _ in range(3):
        add_rule()
    room = add_room()
    publish(room, "first")
    with CaptureQueriesContext(
        connection,
    ) as one:
        publish(room, "a")
    with CaptureQueriesContext(connection) as fifty:
        publish(room, *[str(number) for number in range(50)])

    assert len(one) == len(fifty)


# --- Claiming ---------------------------------------------------------------------------------------------


def test_only_the_oldest_unfinished_delivery_of_a_rule_and_room_is_under_way() -> None:
    add_rule()
    publish(add_room("one"), "a", "b")
    publish(add_room("two"), "c")

    assert sorted(texts_of(claim())) == [["a"], ["c"]]
    assert claim() == []


def test_the_next_of_a_lane_comes_when_the_one_before_is_finished() -> None:
    add_rule()
    publish(add_room(), "a", "b", "c")
    seen = []
    while claims := claim():
        seen += texts_of(claims)
        record(claims[0])

    assert seen == [["a"], ["b"], ["c"]]
    assert states() == ["delivered"] * 3
    assert Lane.objects.get().due_at is None


def test_a_retry_holds_back_what_follows_in_its_room_and_nothing_else() -> None:
    add_rule()
    publish(add_room("one"), "a", "b")
    publish(add_room("two"), "c", "d")
    for of in claim():
        record(of, Fate.RETRY if texts_of([of]) == [["a"]] else Fate.DELIVERED, wait=60)

    others = claim()
    assert texts_of(others) == [["d"]]
    record(others[0])
    assert texts_of(claim(at=now() + timedelta(seconds=61))) == [["a"]]


def test_a_dead_letter_lets_the_next_one_pass() -> None:
    add_rule()
    publish(add_room(), "a", "b")
    record(claim()[0], Fate.DEAD, error="HTTP 400")

    assert texts_of(claim()) == [["b"]]
    dead = Delivery.objects.get(state=DeliveryState.DEAD)
    assert (dead.last_error, dead.finished_at is not None) == ("HTTP 400", True)


def test_a_batched_rule_gets_consecutive_messages_of_a_room_in_one_call() -> None:
    add_rule(batched=True)
    publish(add_room(), *[str(number) for number in range(150)])

    first = claim()[0]
    assert texts_of([first]) == [[str(number) for number in range(100)]]
    record(first)
    assert texts_of(claim()) == [[str(number) for number in range(100, 150)]]


def test_after_a_refused_batch_its_messages_go_one_by_one() -> None:
    add_rule(batched=True)
    publish(add_room(), "a", "b", "poison", "c")
    record(claim()[0], Fate.RETRY, alone=True)
    seen = []
    while claims := claim():
        seen += texts_of(claims)
        record(claims[0], Fate.DEAD if texts_of(claims) == [["poison"]] else Fate.DELIVERED)

    assert seen == [["a"], ["b"], ["poison"], ["c"]]
    assert Delivery.objects.filter(state=DeliveryState.DEAD).count() == 1
    publish(Message.objects.all()[0].room, "d", "e")
    assert texts_of(claim()) == [["d", "e"]]


def test_deliveries_before_publish_are_claimed_side_by_side() -> None:
    add_rule(when="before")
    publish(add_room(), "a", "b", "c")

    assert sorted(texts_of(claim())) == [["a"], ["b"], ["c"]]


def test_one_rule_takes_no_more_than_its_share() -> None:
    hanging, healthy = add_rule(when="before", room_filter="^one"), add_rule(when="before", room_filter="^two")
    publish(add_room("one"), *"abcdefgh")
    publish(add_room("two"), "x")

    claims = claim(calls={hanging.pk: 3})
    assert [of.rule.pk for of in claims].count(hanging.pk) == 3
    assert [of.rule.pk for of in claims].count(healthy.pk) == 1


def test_a_message_that_was_decided_meanwhile_is_not_asked_about() -> None:
    rule = add_rule(when="before")
    message = publish(add_room(), "a")[0].message
    decide_by_hand(rule, message)

    assert claim() == []
    assert states() == ["cancelled"]


def decide_by_hand(rule: IntegrationRule, message: int) -> None:
    verdict = Verdict(action=VerdictAction.PUBLISH)
    decision = Decision(message=message, awaiting=f"integrations:rule-{rule.pk}", verdict=verdict)
    decide.decide([decision], now=now())


# --- Leases -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
def test_two_workers_at_once_never_take_the_same_delivery(when: str) -> None:
    add_rule(when=when)
    for number in range(20):
        publish(add_room(f"room {number}"), "a")
    taken: dict[str, list[int]] = {"one": [], "two": []}
    together = threading.Barrier(2)

    def work(owner: str) -> None:
        together.wait(timeout=PATIENCE)
        for _ in range(10):
            taken[owner] += [one.id for of in claim(owner, free=3) for one in of.deliveries]
        connection.close()

    threads = [threading.Thread(target=work, args=(owner,)) for owner in taken]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=PATIENCE)

    assert len(taken["one"]) + len(taken["two"]) == 20
    assert not set(taken["one"]) & set(taken["two"])


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_a_dead_worker_had_is_claimed_again_when_its_lease_ends_under_the_same_webhook_id(when: str) -> None:
    add_rule(when=when, budget_seconds=1000)
    publish(add_room(), "a")
    first = claim("dies", lease=500)[0]

    assert claim("lives", at=now() + timedelta(seconds=300)) == []
    again = claim("lives", at=now() + timedelta(seconds=501))[0]
    assert again.deliveries[0].webhook_id == first.deliveries[0].webhook_id
    assert again.deliveries[0].attempt == 2


def test_a_worker_that_lost_its_lane_changes_nothing() -> None:
    add_rule()
    publish(add_room(), "a")
    late = claim("late", lease=1)[0]
    claim("other", at=now() + timedelta(seconds=2))

    assert record(late, Fate.DEAD, owner="late") == 0
    assert states() == ["delivering"]
    assert Lane.objects.get().owner == "other"


def test_a_worker_that_lost_its_lease_before_publish_still_brings_a_verdict() -> None:
    rule = add_rule(when="before")
    publish(add_room(), "a")
    late = claim("late", lease=1)[0]
    claim("other", at=now() + timedelta(seconds=2))
    one = late.deliveries[0]
    decision = Decision(
        message=one.message_id,
        awaiting=f"integrations:rule-{rule.pk}",
        verdict=Verdict(action=VerdictAction.PUBLISH),
    )

    recorded = outbox.record_singles([report(late)], {one.id: decision}, owner="late", now=now())

    assert [outcome.kind for outcome in recorded.outcomes] == ["published"]
    assert states() == ["delivering"]  # the other worker's call says what becomes of the delivery
    again = outbox.record_singles([report(late)], {one.id: decision}, owner="late", now=now())
    assert [outcome.kind for outcome in again.outcomes] == ["stale"]


def test_a_delivery_that_ends_every_worker_becomes_a_dead_letter() -> None:
    add_rule()
    publish(add_room(), "poison", "b")
    moment = now()
    for _ in range(3):
        assert texts_of(claim(at=moment, lease=1, max_attempts=3)) == [["poison"]]
        moment += timedelta(seconds=2)

    assert claim(at=moment, max_attempts=3) == []
    assert Delivery.objects.get(state=DeliveryState.DEAD).last_error == outbox.NO_REPORT
    assert texts_of(claim(at=moment + timedelta(seconds=1), max_attempts=3)) == [["b"]]


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_a_worker_gives_back_is_due_at_once_and_costs_no_attempt(when: str) -> None:
    add_rule(when=when)
    publish(add_room(), "a")
    outbox.release(claim(), now=now())

    again = claim()[0].deliveries[0]
    assert (again.attempt, again.tries) == (2, 1)


def test_a_delivery_added_while_its_lane_goes_to_sleep_is_not_forgotten() -> None:
    """The race: the worker finds nothing more and lets the lane sleep, while a publish is about to commit."""
    add_rule()
    room = add_room()
    publish(room, "a")
    of = claim()[0]
    has_published, recorded = threading.Event(), threading.Event()

    def publish_slowly() -> None:
        with transaction.atomic():
            publish(room, "b")
            has_published.set()
            # The recording below must be waiting for the lane by now; it cannot finish before this commits.
            assert not recorded.wait(timeout=0.5)
        connection.close()

    thread = threading.Thread(target=publish_slowly)
    thread.start()
    assert has_published.wait(timeout=PATIENCE)
    record(of)
    recorded.set()
    thread.join(timeout=PATIENCE)

    assert texts_of(claim()) == [["b"]]


# --- By hand ----------------------------------------------------------------------------------------------


def test_a_dead_letter_is_sent_again_in_its_place_under_its_old_webhook_id_with_fresh_attempts() -> None:
    add_rule()
    publish(add_room(), "a", "b", "c")
    first = claim()[0]
    record(first, Fate.DEAD)
    record(claim()[0])

    assert outbox.resend([first.deliveries[0].id], now=now()) == 1
    again = claim()[0]
    assert texts_of([again]) == [["a"]]
    assert again.deliveries[0].webhook_id == first.deliveries[0].webhook_id
    assert (again.deliveries[0].attempt, again.deliveries[0].tries) == (2, 1)
    record(again)
    assert texts_of(claim()) == [["c"]]


def test_every_call_is_kept_as_an_attempt() -> None:
    add_rule()
    publish(add_room(), "a")
    record(claim()[0], Fate.RETRY, error="HTTP 500")
    record(claim()[0])

    assert list(Attempt.objects.order_by("number").values_list("number", "error", "status")) == [
        (1, "HTTP 500", 200),
        (2, "", 200),
    ]


def test_a_removed_rule_takes_its_deliveries_along_and_publishing_goes_on() -> None:
    rule, room = add_rule(), add_room()
    publish(room, "a")
    of = claim()[0]
    rules.remove(rule.name, now=now())

    assert not Delivery.objects.exists()
    assert record(of) == 0
    assert publish(room, "b")[0].kind == "published"


# --- Scale ------------------------------------------------------------------------------------------------


def test_claims_are_index_ranges_however_many_deliveries_there_are() -> None:
    add_rule()
    publish(add_room(), "a")
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO rooms_message (room_id, message_id, author, status, action, accepted_at, awaiting, "
            "at_deadline, reason, origin) "
            "SELECT room_id, 'copy-' || n, author, 'rejected', 0, accepted_at, '', '', '', '' "
            "FROM rooms_message, generate_series(1, 20000) AS n"
        )
        cursor.execute(
            "INSERT INTO integrations_delivery (rule_id, room_id, message_id, event, serial, in_lane, webhook_id, "
            "payload, state, attempts, forgiven, due_at, owner, last_error, answer, created_at, finished_at) "
            "SELECT first.rule_id, first.room_id, message.id, first.event, message.id + 10, true, 'x', '{}', "
            "'delivered', 1, 0, "
            "first.due_at, '', '', '', first.created_at, first.created_at "
            "FROM integrations_delivery AS first, rooms_message AS message WHERE message.message_id LIKE 'copy-%'"
        )
        cursor.execute("ANALYZE integrations_delivery, rooms_message, integrations_lane")
    places = [[IntegrationRule.objects.get().pk], [10], [30.0]]
    with transaction.atomic():
        plans = [
            explain(queries.CLAIM_SINGLES, [now(), *places, "worker", 10.0]),
            explain(queries.CLAIM_LANES, [now(), *places, 10, "worker"]),
        ]
        with connection.cursor() as cursor:
            lane = Lane.objects.get().pk
            cursor.execute("SELECT set_config('integrations.lanes', %s, true)", [f"{{{lane}}}"])
        plans.append(explain(queries.CLAIM_HEADS, ["worker"]))

    assert len(claim()) == 1
    assert all("delivery_due" in plan or "lane_due" in plan or "delivery_next_in_lane" in plan for plan in plans)
    assert not [
        plan for plan in plans if "Seq Scan on integrations_delivery" in plan or "Seq Scan on rooms_message" in plan
    ]


def explain(sql: str, values: list[Any]) -> str:
    """The plan with which a claim runs."""
    with connection.cursor() as cursor:
        cursor.execute(queries.CLAIM_LIGHTLY)
        cursor.execute("EXPLAIN " + sql.replace("%b", "%s"), values)
        return "\n".join(line for (line,) in cursor.fetchall())
