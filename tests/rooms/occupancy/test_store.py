"""What gateways know of each other through Postgres."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from rooms.models import GatewayProcess, Room, RoomOccupancy
from rooms.occupancy import store
from rooms.occupancy.counts import NOBODY, Metrics

FIVE, TWO = Metrics(5, 4, 3, 2, 1), Metrics(2, 2, 2, 0, 2)


@pytest.fixture
def gateways(room: Room) -> tuple[int, int]:
    """Two gateways with five and two members in the room."""
    near, far = (store.register(name, connections_max=10) for name in ("near", "far"))
    assert store.beat(near, 5, [(room.pk, FIVE)])
    assert store.beat(far, 2, [(room.pk, TWO)])
    return near, far


def silence(gateway: int, seconds: float) -> None:
    GatewayProcess.objects.filter(pk=gateway).update(seen_at=Now() - timedelta(seconds=seconds))


def test_a_gateway_reads_what_all_others_have(gateways: tuple[int, int], room: Room) -> None:
    near, far = gateways
    assert store.read_others(near, [room.pk, 999]) == {room.pk: TWO}
    assert store.read_others(far, [room.pk]) == {room.pk: FIVE}
    assert store.read_others(None, [room.pk]) == {room.pk: Metrics(7, 6, 5, 2, 3)}
    assert store.read_room("lobby", near) == (room.pk, TWO)
    assert store.read_room("nowhere", near) == (None, NOBODY)
    assert not Room.objects.filter(name="nowhere").exists()


def test_a_gateway_that_fell_silent_does_not_count_until_it_is_back(gateways: tuple[int, int], room: Room) -> None:
    near, far = gateways
    silence(far, store.ALIVE_SECONDS + 0.1)
    assert store.read_others(near, [room.pk]) == {}
    assert store.beat(far, 2, [])
    assert store.read_others(near, [room.pk]) == {room.pk: TWO}


def test_a_forgotten_gateway_is_told_so_and_counts_nothing(gateways: tuple[int, int], room: Room) -> None:
    near, far = gateways
    silence(far, store.FORGET_SECONDS + 1)
    store.forget_silent()
    assert list(RoomOccupancy.objects.values_list("gateway_id", flat=True)) == [near]
    assert not store.beat(far, 2, [(room.pk, TWO)])
    assert RoomOccupancy.objects.count() == 1


def test_an_emptied_room_leaves_no_row_and_a_stopped_gateway_leaves_nothing(
    gateways: tuple[int, int], room: Room
) -> None:
    near, far = gateways
    store.beat(near, 0, [(room.pk, NOBODY)])
    assert store.read_others(far, [room.pk]) == {}
    store.unregister(far)
    assert not RoomOccupancy.objects.exists()
    assert list(GatewayProcess.objects.values_list("pk", flat=True)) == [near]


def test_a_heartbeat_is_one_statement_however_many_rooms_changed(gateways: tuple[int, int]) -> None:
    with CaptureQueriesContext(connection) as queries:
        store.beat(gateways[0], 9, [(number, FIVE if number % 2 else NOBODY) for number in range(1000, 2000)])
    assert len(queries) == 1
    assert RoomOccupancy.objects.filter(gateway_id=gateways[0]).count() == 501


def test_active_rooms_are_listed_by_name_and_only_those(gateways: tuple[int, int], room: Room) -> None:
    hall, empty = Room.objects.create(name="hall_1"), Room.objects.create(name="hall")
    store.beat(gateways[0], 5, [(hall.pk, FIVE), (empty.pk, NOBODY)])
    assert store.read_active(prefix="", after="", limit=9) == [("hall_1", FIVE), ("lobby", Metrics(7, 6, 5, 2, 3))]
    assert [name for name, _ in store.read_active(prefix="hall_", after="", limit=9)] == ["hall_1"]
    assert [name for name, _ in store.read_active(prefix="", after="hall_1", limit=9)] == ["lobby"]
    silence(gateways[0], store.ALIVE_SECONDS + 1)
    assert store.read_active(prefix="", after="", limit=9) == [("lobby", TWO)]


def test_the_tables_cost_no_wal(db: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relpersistence FROM pg_class WHERE oid IN "
            "('rooms_gatewayprocess'::regclass, 'rooms_roomoccupancy'::regclass)"
        )
        assert cursor.fetchall() == [("u",), ("u",)]
