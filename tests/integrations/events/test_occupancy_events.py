"""How many are in a room, as rules are told: every change once, and no interruption of a moment."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from integrations.database.advisory_locks import AdvisoryLock
from integrations.events import occupancy_events
from integrations.matching import rule_book
from integrations.models import Delivery, IntegrationRule, Lane, RoomTold
from integrations.rules import rules
from integrations.worker import targets
from rooms.models import GatewayProcess, Room, RoomOccupancy
from rooms.occupancy import store
from rooms.occupancy.unused_rooms import sweep
from tests.integrations.world import add_room, add_rule, claim, locked, now

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("webhooks_only")]

ALL = ("channel.occupancy", "channel.opened", "channel.closed")


@pytest.fixture(autouse=True)
def _every_call_compares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("integrations.events.occupancy_events.OCCUPANCY_EVENT_SECONDS", 0.0)
    monkeypatch.setattr(occupancy_events, "TICK_SECONDS", 0.0)
    monkeypatch.setattr(store, "ALIVE_SECONDS", 600.0)  # nobody falls silent because a machine is slow


@pytest.fixture
def gateway() -> GatewayProcess:
    return GatewayProcess.objects.create(server_id="g", host="h", pid=1, connections_max=9)


def members(gateway: GatewayProcess, room: Room, count: int) -> None:
    """Let so many be in a room, and the gateway be alive."""
    GatewayProcess.objects.filter(pk=gateway.pk).update(seen_at=timezone.now())
    RoomOccupancy.objects.filter(room=room).delete()
    if count:
        RoomOccupancy.objects.create(
            room=room, gateway=gateway, connections=count, publishers=count, subscribers=count,
            presence_connections=0, presence_subscribers=0,
        )  # fmt: skip


def is_long_empty() -> None:
    """Let the time pass after which an empty room is closed."""
    RoomTold.objects.filter(empty_since__isnull=False).update(empty_since=timezone.now() - timedelta(hours=1))


def told() -> list[tuple[str, int]]:
    """Compare, and return what rules are newly owed: events with the number of connections."""
    occupancy_events.notify_rules()
    owed = [
        (one.event, json.loads(one.payload)["status"]["occupancy"]["metrics"]["connections"])
        for one in Delivery.objects.order_by("id")
    ]
    Delivery.objects.all().delete()
    return owed


def test_a_room_opens_changes_and_closes_and_each_is_told_once(gateway: GatewayProcess) -> None:
    add_rule(events=ALL)
    room = add_room()
    assert told() == []

    members(gateway, room, 1)
    assert told() == [("channel.opened", 1), ("channel.occupancy", 1)]
    assert told() == []
    members(gateway, room, 3)
    assert told() == [("channel.occupancy", 3)]
    members(gateway, room, 0)
    assert told() == []
    is_long_empty()
    assert told() == [("channel.occupancy", 0), ("channel.closed", 0)]
    assert told() == []


def test_who_comes_back_at_once_finds_the_room_open(gateway: GatewayProcess) -> None:
    add_rule(events=ALL)
    room = add_room()
    told()
    members(gateway, room, 2)
    told()

    members(gateway, room, 0)
    assert told() == []
    members(gateway, room, 2)
    assert told() == []
    is_long_empty()
    assert told() == []


def test_counts_of_a_gateway_that_fell_silent_do_not_count(gateway: GatewayProcess) -> None:
    add_rule(events=["channel.closed"])
    room = add_room()
    told()
    members(gateway, room, 2)
    told()

    GatewayProcess.objects.update(seen_at=timezone.now() - timedelta(seconds=store.ALIVE_SECONDS + 1))
    assert told() == []
    is_long_empty()
    assert told() == [("channel.closed", 0)]


def test_a_rule_is_told_of_the_rooms_and_events_that_it_asked_for(gateway: GatewayProcess) -> None:
    # An author filter lets through what nobody wrote.
    add_rule(events=["channel.opened"], room_filter="^public:", author_filter="^alice$", ordered=False)
    here, elsewhere = add_room("public:a"), add_room("private:a")
    told()
    members(gateway, here, 1)
    members(gateway, elsewhere, 1)

    occupancy_events.notify_rules()

    (one,) = Delivery.objects.all()
    assert (one.event, one.room_id, one.message_id, one.in_lane) == ("channel.opened", here.pk, None, False)


def test_a_rule_does_not_hear_of_who_was_there_before_it(gateway: GatewayProcess) -> None:
    room, other = add_room("a"), add_room("b")
    members(gateway, room, 5)
    assert told() == []
    rule = add_rule(events=ALL)
    assert told() == []

    members(gateway, other, 1)
    assert told() == [("channel.opened", 1), ("channel.occupancy", 1)]
    rules.switch(rule.name, enabled=False, now=timezone.now())
    assert told() == []
    assert not RoomTold.objects.exists()


@pytest.mark.parametrize("ordered", [True, False])
def test_what_is_owed_about_a_room_is_called_like_everything_else(gateway: GatewayProcess, ordered: bool) -> None:
    rule = add_rule(events=["channel.opened"], ordered=ordered)
    told()
    members(gateway, add_room("lobby"), 1)
    occupancy_events.notify_rules()

    (one,) = claim()
    request = targets.prepare(rule, one.deliveries, app_id="a", now=now())

    body = json.loads(request.body)
    assert (body["event"], body["channel"], body["status"]["isActive"]) == ("channel.opened", "lobby", True)
    assert "serial" not in body and "callback" not in body


def test_operators_see_how_many_rooms_are_open_for_rules(gateway: GatewayProcess) -> None:
    assert occupancy_events.open_rooms() == (0, 0.0)
    add_rule(events=ALL)
    told()
    members(gateway, add_room(), 1)
    told()

    rooms, seconds = occupancy_events.open_rooms()
    assert rooms == 1 and 0 < seconds < 60


def test_one_worker_compares_at_a_time(gateway: GatewayProcess) -> None:
    add_rule(events=ALL)
    room = add_room()
    told()
    members(gateway, room, 1)

    with connection.copy().cursor() as other:
        other.execute("SELECT pg_advisory_lock(%s)", [AdvisoryLock.COMPARING_ROOMS.value])
        assert told() == []
        other.connection.close()
    assert told() == [("channel.opened", 1), ("channel.occupancy", 1)]


def test_what_two_workers_found_at_the_same_time_is_told_once(gateway: GatewayProcess) -> None:
    add_rule(events=ALL)
    room = add_room()
    told()

    for count, events in ((1, ["channel.opened", "channel.occupancy"]), (2, ["channel.occupancy"])):
        members(gateway, room, count)
        found = [occupancy_events._look() for _ in range(2)]
        assert [occupancy_events._notify_part(one, rule_book.read()) for one in found] == [1, 0]
        assert list(Delivery.objects.order_by("id").values_list("event", flat=True)) == events
        Delivery.objects.all().delete()

    members(gateway, room, 0)
    told()
    is_long_empty()
    found = [occupancy_events._look() for _ in range(2)]
    assert [occupancy_events._notify_part(one, rule_book.read()) for one in found] == [1, 0]


def test_many_rooms_take_turns(gateway: GatewayProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("integrations.events.occupancy_events.OCCUPANCY_EVENTS_PER_SECOND", 2)
    add_rule(events=["channel.opened"])
    told()
    for number in range(5):
        members(gateway, add_room(f"r{number}"), 1)

    assert [len(told()) for _ in range(4)] == [2, 2, 1, 0]


def test_a_room_that_went_while_it_was_open_is_forgotten(gateway: GatewayProcess) -> None:
    add_rule(events=ALL)
    room = add_room()
    told()
    members(gateway, room, 1)
    told()

    RoomOccupancy.objects.all().delete()
    Room.objects.all().delete()
    told()
    is_long_empty()
    assert told() == []
    assert set(RoomTold.objects.values_list("room_id", flat=True)) == {0}
    assert IntegrationRule.objects.count() == 1


def test_a_room_that_rules_were_told_of_is_removed_only_when_no_delivery_names_it_any_more(
    gateway: GatewayProcess,
) -> None:
    add_rule(events=ALL)
    told()
    long_ago = timezone.now() - timedelta(days=1)
    GatewayProcess.objects.filter(pk=gateway.pk).update(started_at=long_ago)
    room = Room.objects.create(name="lobby", unused_after=long_ago)
    members(gateway, room, 1)
    assert told()
    assert Room.objects.get().unused_after > timezone.now() + timedelta(days=30)

    members(gateway, room, 0)
    Room.objects.update(unused_after=long_ago)
    assert sweep() == 0, "it is still open for rules"
    told()
    is_long_empty()
    assert told()[-1][0] == "channel.closed"
    Room.objects.update(unused_after=long_ago)
    assert sweep() == 0, "its lane holds what rules are owed"
    assert Lane.objects.count() == 1
    Lane.objects.update(due_at=None)
    Room.objects.update(unused_after=long_ago)
    assert sweep() == 1
    assert not Room.objects.exists() and not Lane.objects.exists()


def test_a_room_that_is_locked_is_told_later_and_delays_no_other(gateway: GatewayProcess) -> None:
    add_rule(events=ALL)
    told()
    stuck, hall = add_room("stuck"), add_room("hall")
    for room in (stuck, hall):
        members(gateway, room, 1)

    with locked(stuck):
        occupancy_events.notify_rules()
        assert set(Delivery.objects.values_list("room", flat=True)) == {hall.pk}
    occupancy_events.notify_rules()
    assert Delivery.objects.filter(room=stuck, event="channel.opened").count() == 1
    assert Delivery.objects.filter(room=hall, event="channel.opened").count() == 1
