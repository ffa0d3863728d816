"""Administrators see how many are where, and which gateways are well."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test import Client

from rooms.models import GatewayProcess, Room
from rooms.occupancy import store
from rooms.occupancy.counts import Metrics
from tests.admin_pages import plans_of, sequential_scans, sign_in

GATEWAYS, ROOMS = "/admin/rooms/gatewayprocess/", "/admin/rooms/room/"


@pytest.fixture
def alice(db: None) -> Client:
    return sign_in("alice", "rooms.view_gatewayprocess", "rooms.view_room")


@pytest.fixture
def gateways(room: Room) -> list[int]:
    """A gateway that is alive and one that fell silent, each with people in the room."""
    gateways = [store.register(name, connections_max=19_000) for name in ("near", "far")]
    for gateway in gateways:
        store.beat(gateway, 1200 + gateway, [(room.pk, Metrics(connections=1200))])
    GatewayProcess.objects.filter(pk=gateways[1]).update(seen_at=Now() - timedelta(seconds=store.ALIVE_SECONDS + 30))
    return gateways


def rows(page: Any) -> list[str]:
    """Return the list's rows as they are read, without their markup."""
    body = page.content.decode().partition("<tbody>")[2].partition("</tbody>")[0]
    return [" ".join(re.sub(r"<[^>]*>", " ", row).split()) for row in body.split("</tr>")[:-1]]


def test_gateways_are_listed_and_nobody_changes_them(gateways: list[int], alice: Client) -> None:
    near, far = sorted(rows(alice.get(GATEWAYS)), key=lambda row: "far" in row)
    assert f"near {1200 + gateways[0]:,} of 19,000 alive" in near
    assert f"far {1200 + gateways[1]:,} of 19,000 silent" in far
    root = sign_in("root", *(f"rooms.{verb}_gatewayprocess" for verb in ("view", "add", "change", "delete")))
    assert root.get(f"{GATEWAYS}add/").status_code == 403
    assert root.post(f"{GATEWAYS}{gateways[0]}/delete/", {"post": "yes"}).status_code == 403
    assert sign_in("mallory").get(GATEWAYS).status_code == 403


def test_the_list_of_rooms_shows_connections_of_gateways_that_are_alive(gateways: list[int], alice: Client) -> None:
    Room.objects.create(name="empty")
    empty, lobby = rows(alice.get(ROOMS))
    assert "1,200 0 entries" in lobby
    assert "- 0 entries" in empty


def test_a_page_of_rooms_costs_an_index_scan_a_room(
    gateways: list[int], alice: Client, django_assert_max_num_queries: Any
) -> None:
    Room.objects.bulk_create(Room(name=f"room-{number:05}") for number in range(3000))
    ids = Room.objects.values_list("pk", flat=True)
    store.beat(gateways[0], 3000, [(room_id, Metrics(connections=1)) for room_id in ids])
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE rooms_roomoccupancy, rooms_room")
    for sql, plan in plans_of(alice, ROOMS):
        assert "rooms_roomoccupancy" not in list(sequential_scans(plan)), sql
    with django_assert_max_num_queries(7):
        alice.get(ROOMS)


def test_the_first_page_says_how_many_are_connected(gateways: list[int], alice: Client) -> None:
    page = alice.get("/admin/").content.decode()
    assert f"<strong>{1200 + gateways[0]:,}</strong> <span>connected now</span> <small>1 gateway</small>" in page
