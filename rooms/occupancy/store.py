"""Writes and reads the heartbeats of gateways and their counts by room.

Both tables are soft state: unlogged (Postgres writes no WAL for them, and empties them when it starts after a
crash), written by each gateway for itself, and correct again one heartbeat after any failure. All times are by
Postgres' clock: gateways' clocks may differ.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Sequence
from datetime import timedelta

from django.db import connection, transaction
from django.db.models import Q
from django.db.models.functions import Now

from rooms.models import GatewayProcess, Room
from rooms.occupancy.counts import NOBODY, Metrics

ALIVE_SECONDS = 3.5  # three heartbeats; with the reader's second, a killed gateway is out of all sums within 5 s
FORGET_SECONDS = 60.0  # a gateway that fell silent is shown for so long, and may come back under its id

_COLUMNS = ", ".join(Metrics._fields)
_SUMS = ", ".join(f"sum(counted.{name})::int" for name in Metrics._fields)
_ARRAYS = ", ".join("%s::int[]" for _ in Metrics._fields)
_ASSIGNMENTS = ", ".join(f"{name} = excluded.{name}" for name in Metrics._fields)
_ALIVE = (
    "rooms_roomoccupancy AS counted JOIN rooms_gatewayprocess AS gateway ON gateway.id = counted.gateway_id "
    "AND gateway.seen_at > clock_timestamp() - make_interval(secs => %s)"
)


def is_alive(prefix: str = "") -> Q:
    """Return the condition of an alive gateway, for Django's queries."""
    return Q(**{f"{prefix}seen_at__gt": Now() - timedelta(seconds=ALIVE_SECONDS)})


def register(server_id: str, *, connections_max: int) -> int:
    """Add this process as a gateway and return its primary key."""
    gateway = GatewayProcess(server_id=server_id, host=socket.gethostname()[:253], pid=os.getpid())
    gateway.connections_max = connections_max
    gateway.save(force_insert=True)
    return int(gateway.pk)


def beat(gateway_id: int, connections: int, changes: Sequence[tuple[int, Metrics]]) -> bool:
    """Store a heartbeat of a gateway and its changed counts. Return False if the gateway has no row (any more).

    One statement, so that no counts are stored for a gateway that another one has just removed as dead.
    """
    filled = sorted((room_id, metrics) for room_id, metrics in changes if metrics != NOBODY)
    emptied = [room_id for room_id, metrics in changes if metrics == NOBODY]
    columns = [[metrics[place] for _, metrics in filled] for place in range(len(NOBODY))]
    with connection.cursor() as cursor:
        cursor.execute(
            "WITH here AS (UPDATE rooms_gatewayprocess SET seen_at = clock_timestamp(), connections = %s "
            "WHERE id = %s RETURNING id), "
            "emptied AS (DELETE FROM rooms_roomoccupancy AS counted USING here "
            "WHERE counted.gateway_id = here.id AND counted.room_id = ANY(%s)), "
            f"filled AS (INSERT INTO rooms_roomoccupancy (gateway_id, room_id, {_COLUMNS}) "
            f"SELECT here.id, new.* FROM here, unnest(%s::bigint[], {_ARRAYS}) AS new (room_id, {_COLUMNS}) "
            f"ON CONFLICT (room_id, gateway_id) DO UPDATE SET {_ASSIGNMENTS}) "
            "SELECT count(*) FROM here",
            [connections, gateway_id, emptied, [room_id for room_id, _ in filled], *columns],
        )
        return bool(cursor.fetchone()[0])


def read_others(gateway_id: int | None, room_ids: Collection[int]) -> dict[int, Metrics]:
    """Return the sums of all other alive gateways, by room; rooms without connections there are left out."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT counted.room_id, {_SUMS} FROM {_ALIVE} WHERE counted.room_id = ANY(%s) "
            "AND counted.gateway_id <> %s GROUP BY counted.room_id",
            [ALIVE_SECONDS, list(room_ids), gateway_id or 0],
        )
        return {room_id: Metrics(*counts) for room_id, *counts in cursor.fetchall()}


def read_room(name: str, gateway_id: int | None) -> tuple[int | None, Metrics]:
    """Return a room's id (None if there is no such room), and the sums of all other gateways in it."""
    room_id = Room.objects.filter(name=name).values_list("pk", flat=True).first()
    if room_id is None:
        return None, NOBODY
    return room_id, read_others(gateway_id, [room_id]).get(room_id, NOBODY)


def sums_sql() -> tuple[str, float]:
    """Return the SQL that selects all active rooms (id, then the sums as in Metrics), and its parameter."""
    return f"SELECT counted.room_id, {_SUMS} FROM {_ALIVE} GROUP BY counted.room_id", ALIVE_SECONDS


def read_active(*, prefix: str, after: str, limit: int) -> list[tuple[str, Metrics]]:
    """Return active rooms whose names begin with `prefix`, by name, after the name `after`."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT room.name, {_SUMS} FROM {_ALIVE} JOIN rooms_room AS room ON room.id = counted.room_id "
            "WHERE starts_with(room.name, %s) AND room.name > %s GROUP BY room.name ORDER BY room.name LIMIT %s",
            [ALIVE_SECONDS, prefix, after, limit],
        )
        return [(name, Metrics(*counts)) for name, *counts in cursor.fetchall()]


def forget_silent() -> None:
    """Remove gateways that are silent for FORGET_SECONDS, with their counts. Concurrent calls do not wait."""
    with transaction.atomic():
        silent = list(
            GatewayProcess.objects.filter(seen_at__lt=Now() - timedelta(seconds=FORGET_SECONDS))
            .select_for_update(skip_locked=True)
            .values_list("pk", flat=True)
        )
        _remove(silent)


def unregister(gateway_id: int) -> None:
    """Remove a gateway that is about to end, with its counts."""
    with transaction.atomic():
        _remove([gateway_id])


def _remove(gateway_ids: list[int]) -> None:
    if gateway_ids:
        with connection.cursor() as cursor:
            # In this order: without the gateway's row, its heartbeats store no counts.
            cursor.execute("DELETE FROM rooms_gatewayprocess WHERE id = ANY(%s)", [gateway_ids])
            cursor.execute("DELETE FROM rooms_roomoccupancy WHERE gateway_id = ANY(%s)", [gateway_ids])
