"""What is taken when: side by side, in batches, late, and from workers that died."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import pytest

from integrations import outbox
from integrations.models import Delivery, EventKind, IntegrationRule, Lane, RuleThrottle, WorkerProcess
from integrations.outbox import Claim, NewDelivery, Replay
from integrations.outbox.conclusions import CallReport, Conclusion, Fate
from integrations.worker import heartbeat
from integrations.worker.clock import Clock
from rooms.models import Message, Room
from tests.integrations.world import add_room, add_rule, claim, now, publish, texts_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("webhooks_only", "_workers_live_long")]


def add(**changes: Any) -> IntegrationRule:
    """A rule with fields that need no check here."""
    wanted = {key: changes.pop(key) for key in ("when", "batched") if key in changes}
    rule = add_rule(**wanted)
    IntegrationRule.objects.filter(pk=rule.pk).update(**changes)
    rule.refresh_from_db()
    return rule


def record(of: Claim, fate: Fate = Fate.DELIVERED, *, wait: float = 0.0, **changes: Any) -> None:
    due_at = now() + timedelta(seconds=wait)
    conclusions = [Conclusion(delivery=one, fate=fate, due_at=due_at, status=500, **changes) for one in of.deliveries]
    report = CallReport(lane=of.lane, conclusions=conclusions, started_at=now(), duration_ms=1.0)
    if of.lane is None:
        outbox.record_singles([report], {}, owner="worker", now=now())
    else:
        outbox.record_lanes([report], owner="worker", now=now())


def add_deliveries(rule: IntegrationRule, room: Room, *payloads: str, **delivery: Any) -> None:
    deliveries = [
        NewDelivery(
            rule_id=rule.pk, room_id=room.pk, message_id=None, payload=payload, event=EventKind.OCCUPANCY, **delivery
        )
        for payload in payloads
    ]
    outbox.add_deliveries(deliveries, now=now())


def payloads(claims: list[Claim]) -> list[list[str]]:
    return [[one.payload for one in of.deliveries] for of in claims]


def test_a_stand_in_is_asked_as_a_shadow_only_about_what_it_has_not_decided() -> None:
    main = add(when="before", cache_seconds=0.0)
    stand_in = add_rule(when="before", shadow_of=main, stands_in=True)
    publish(add_room(), "a", "b")
    first, second = claim()
    for of, by in ((first, stand_in.pk), (second, 0)):
        conclusions = [Conclusion(delivery=one, fate=Fate.DELIVERED, due_at=now(), status=200) for one in of.deliveries]
        report = CallReport(lane=None, conclusions=conclusions, started_at=now(), duration_ms=1.0, stand_in_id=by)
        outbox.record_singles([report], {}, owner="worker", now=now())

    assert [one.rule_id for of in (first, second) for one in of.deliveries] == [main.pk, main.pk]
    assert texts_of(claim(at=now() + timedelta(seconds=3))) == [["b"]]
    assert Delivery.objects.get(rule=stand_in, state="cancelled").message_id == first.deliveries[0].message_id


# --- Order and batches ------------------------------------------------------------------------------------


def test_a_rule_that_wants_no_order_is_called_side_by_side() -> None:
    add(ordered=False)
    publish(add_room(), "a", "b", "c")

    assert sorted(texts_of(claim())) == [["a"], ["b"], ["c"]]
    assert not Lane.objects.exists()


@pytest.mark.parametrize("in_lane", [False, True])
@pytest.mark.parametrize(("owing", "claiming"), [(30, 0), (0, -30)])
def test_hosts_whose_clocks_differ_owe_what_is_found_at_once(in_lane: bool, owing: float, claiming: float) -> None:
    rule, room = add(), add_room()
    delivery = NewDelivery(
        rule_id=rule.pk, room_id=room.pk, message_id=None, payload="x", event=EventKind.OPENED, in_lane=in_lane
    )
    outbox.add_deliveries([delivery], now=now() + timedelta(seconds=owing))

    assert payloads(claim(at=now() + timedelta(seconds=claiming))) == [["x"]]


def test_an_event_about_no_message_is_delivered_like_any_other() -> None:
    rule, room = add(), add_room()
    add_deliveries(rule, room, "1", "2", in_lane=True)
    add_deliveries(rule, room, "3")

    assert payloads(claim()) == [["3"], ["1"]]


def test_what_is_owed_of_a_room_that_is_gone_is_cancelled() -> None:
    rule, room = add(), add_room()
    add_deliveries(rule, room, "1")
    room.delete()

    assert claim() == []
    assert Delivery.objects.get().state == "cancelled"


def test_a_batch_holds_as_many_events_and_bytes_as_the_rule_says() -> None:
    rule, room = add(batched=True, batch_events=3, batch_bytes=10), add_room()
    add_deliveries(rule, room, "1", "2", "3", "4", "123456789012345", "12345", "12345", "1")

    assert payloads(claim()) == [["1", "2", "3"], ["4"], ["123456789012345"], ["12345", "12345"], ["1"]]


def test_a_batch_of_a_lane_holds_as_many_bytes_as_the_rule_says() -> None:
    rule, room = add(batched=True, batch_bytes=10), add_room()
    add_deliveries(rule, room, "12345", "12345", "1", in_lane=True)

    first = claim()
    assert payloads(first) == [["12345", "12345"]]
    record(first[0])
    assert payloads(claim()) == [["1"]]


@pytest.mark.parametrize("in_lane", [False, True])
def test_a_batch_waits_for_more_events_as_long_as_the_rule_says(in_lane: bool) -> None:
    rule, room = add(batched=True, batch_wait_ms=60_000), add_room()
    add_deliveries(rule, room, "1", "2", in_lane=in_lane)

    assert claim() == []
    assert payloads(claim(at=now() + timedelta(seconds=61))) == [["1", "2"]]


def test_a_full_batch_waits_no_longer() -> None:
    rule, room = add(batched=True, batch_wait_ms=60_000, batch_events=2), add_room()
    add_deliveries(rule, room, "1", "2", "3")

    assert payloads(claim(calls={rule.pk: 1})) == [["1", "2"]]
    assert claim() == []


def test_a_worker_takes_no_more_calls_in_all_than_it_has_places() -> None:
    rule, other, room = add(), add(batched=True, batch_events=10), add_room()
    add_deliveries(rule, room, *"abc")
    add_deliveries(other, room, *map(str, range(30)))

    assert len(claim(free=4)) == 4


def test_after_an_outage_batches_are_batches_again_and_one_that_is_refused_is_taken_apart() -> None:
    rule, room = add(batched=True), add_room()
    add_deliveries(rule, room, "1", "2")
    record(claim()[0], Fate.RETRY, wait=-1)
    assert payloads(claim(at=now() + timedelta(seconds=1))) == [["1", "2"]]

    Delivery.objects.update(state="pending", due_at=now(), last_status=400)
    assert payloads(claim()) == [["1"], ["2"]]


# --- Deadlines --------------------------------------------------------------------------------------------


def asked(late: str, *texts: str) -> IntegrationRule:
    """A rule whose messages the deadline has decided."""
    rule = add(when="before", late=late, cache_seconds=0)
    publish(add_room(), *texts)
    Message.objects.update(status="rejected", awaiting="", deadline=None, at_deadline="")
    Delivery.objects.update(deadline=now() - timedelta(seconds=1))
    return rule


def test_nobody_is_asked_about_what_the_deadline_has_decided() -> None:
    asked("record", "a", "b")

    assert outbox.cancel_overdue(now=now()) == 2
    assert claim() == []
    assert set(Delivery.objects.values_list("state", flat=True)) == {"cancelled"}


def test_where_late_verdicts_count_they_are_asked_for_after_the_deadline_too() -> None:
    asked("apply", "a", "b")

    assert outbox.cancel_overdue(now=now()) == 0
    assert [of.deliveries[0].is_late for of in claim()] == [True, True]


def test_one_that_a_callback_answered_late_is_not_asked_for_again() -> None:
    asked("apply", "a")
    Delivery.objects.update(answer="{}")

    assert claim() == []


def test_late_verdicts_do_not_make_all_that_follows_late() -> None:
    rule = asked("apply", *map(str, range(20)))
    publish(Room.objects.get(), "fresh")

    first = claim(calls={rule.pk: 4}, free=4)
    assert texts_of(first)[0] == ["fresh"]
    assert len(first) == 4


# --- Again ------------------------------------------------------------------------------------------------


def test_when_a_target_is_back_what_waits_for_its_next_attempt_is_due() -> None:
    rule, room = add(), add_room()
    add_deliveries(rule, room, "1", in_lane=True)
    add_deliveries(rule, room, "2")
    for of in claim():
        record(of, Fate.RETRY, wait=3600)
    assert claim() == []

    assert outbox.retry_now(rule.pk, now=now()) == 2
    assert payloads(claim()) == [["2"], ["1"]]
    assert outbox.retry_now(rule.pk, now=now()) == 0


def test_a_lease_is_not_hastened() -> None:
    rule, room = add(), add_room()
    add_deliveries(rule, room, "1", in_lane=True)
    add_deliveries(rule, room, "2")
    claim()

    assert outbox.retry_now(rule.pk, now=now()) == 0
    assert claim() == []


def test_dead_letters_of_some_hours_are_sent_again_in_their_order() -> None:
    rule, room = add(), add_room()
    publish(room, *"abcd")
    for _ in range(4):
        record(claim()[0], Fate.DEAD)
    first, *_, last = Delivery.objects.order_by("id")
    Delivery.objects.filter(pk=last.pk).update(created_at=now() - timedelta(days=2))
    query = Replay(rule_id=rule.pk, since=now() - timedelta(hours=1), event=EventKind.MESSAGE)

    assert outbox.replay(query, now=now(), most=2) == 2
    assert outbox.replay(query, now=now()) == 1
    seen = []
    while claims := claim():
        seen += texts_of(claims)
        record(claims[0])
    assert seen == [["a"], ["b"], ["c"]]
    assert outbox.replay(Replay(rule_id=rule.pk, states=["delivered"], until=first.created_at), now=now()) == 0


def test_verdicts_are_not_asked_for_again_by_a_replay() -> None:
    rule = asked("record", "a")
    outbox.cancel_overdue(now=now())

    assert outbox.replay(Replay(rule_id=rule.pk, states=["cancelled"]), now=now()) == 0


# --- Workers that died ------------------------------------------------------------------------------------

SILENT_SECONDS = 600.0


@pytest.fixture
def _workers_live_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody falls silent because a machine is slow."""
    monkeypatch.setattr(heartbeat, "SILENT_SECONDS", SILENT_SECONDS)


def beat(name: str, pid: int, *, seconds_ago: float = 0.0) -> None:
    heartbeat.beat(name, calls=0, told=[])
    WorkerProcess.objects.filter(name=name).update(pid=pid, seen_at=now() - timedelta(seconds=seconds_ago))


@pytest.mark.parametrize("in_lane", [False, True])
def test_what_a_dead_worker_had_is_due_at_once_and_nothing_of_others(in_lane: bool) -> None:
    rule, one, two = add(), add_room("one"), add_room("two")
    add_deliveries(rule, one, "dead", in_lane=in_lane)
    dead = claim("dies")[0].deliveries[0]
    add_deliveries(rule, two, "alive", in_lane=in_lane)
    claim("lives")
    beat("dies", pid=os.getpid(), seconds_ago=SILENT_SECONDS + 1)
    beat("lives", pid=os.getpid())

    found = heartbeat.beat("asks", calls=0, told=[]).dead
    assert heartbeat.remove_dead(found, now=now()) == ["dies"]
    again = claim("asks")
    assert payloads(again) == [["dead"]]
    assert again[0].deliveries[0].webhook_id == dead.webhook_id
    assert heartbeat.remove_dead(found, now=now()) == []


def test_a_worker_of_this_host_whose_process_is_gone_is_dead_before_it_is_silent() -> None:
    beat("gone", pid=2**22 - 1)
    beat("lives", pid=os.getpid())

    pulse = heartbeat.beat("asks", calls=0, told=[])
    assert (pulse.dead, pulse.living) == (["gone"], 2)


def test_machines_of_one_image_do_not_look_each_others_processes_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    beat("gone", pid=2**22 - 1)
    (tmp_path / "boot").write_text("another machine\n")
    monkeypatch.setattr(heartbeat, "BOOT", tmp_path / "boot")

    assert heartbeat.beat("asks", calls=0, told=[]).dead == []


def test_while_nobody_could_speak_nobody_is_dead() -> None:
    beat("cut off too", pid=os.getpid(), seconds_ago=SILENT_SECONDS + 1)

    assert heartbeat.beat("asks", calls=0, told=[], sees_silence=False).dead == []


def test_a_heartbeat_sets_the_clock_of_a_host_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.now(tz) + timedelta(hours=1)

    monkeypatch.setattr("integrations.worker.heartbeat.datetime", Wrong)
    monkeypatch.setattr("integrations.worker.clock.datetime", Wrong)
    clock = Clock()
    assert clock.now() - now() > timedelta(minutes=59)
    clock.set(heartbeat.beat("wrong", calls=0, told=[]).ahead)

    assert clock.is_set
    assert abs(clock.now() - now()) < timedelta(seconds=60)


def test_a_worker_that_was_only_slow_is_not_buried() -> None:
    beat("slow", pid=os.getpid(), seconds_ago=SILENT_SECONDS + 1)
    found = heartbeat.beat("asks", calls=0, told=[]).dead
    heartbeat.beat("slow", calls=0, told=[])

    assert found == ["slow"]
    assert heartbeat.remove_dead(found, now=now()) == []


def test_a_worker_tells_how_it_calls_and_leaves_nothing_behind() -> None:
    rule = add()
    told = heartbeat.ThrottleReport(
        rule_id=rule.pk, breaker="open", limit=1.0, calls=0, opened_at=now(), probe_at=now()
    )
    heartbeat.beat("a", calls=3, told=[told])
    assert RuleThrottle.objects.get().breaker == "open"
    heartbeat.beat("a", calls=3, told=[])
    assert not RuleThrottle.objects.exists()

    heartbeat.leave("a")
    assert not WorkerProcess.objects.exists()
