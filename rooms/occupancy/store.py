"""What gateways know of each other: which are alive, and how many each has in which room. The hot SQL of it.

Both tables are soft state: unlogged (Postgres writes no WAL for them, and empties them when it starts after a
crash), written by each gateway for itself, and correct again one heartbeat after whatever happened. All times are
the database's own: gateways' clocks may differ.
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
FORGET_SECONDS = 60.0  # so long a gateway that fell silent is shown, and may come back as if nothing was

_COLUMNS = ", ".join(Metrics._fields)
_SUMS = ", ".join(f"sum(counted.{name})::int" for name in Metrics._fields)
_ARRAYS = ", ".join("%s::int[]" for _ in Metrics._fields)
_ASSIGNMENTS = ", ".join(f"{name} = excluded.{name}" for name in Metrics._fields)
_ALIVE = (
    "rooms_roomoccupancy AS counted JOIN rooms_gatewayprocess AS gateway ON gateway.id = counted.gateway_id "
    "AND gateway.seen_at > clock_timestamp() - make_interval(secs => %s)"
)


def is_alive(prefix: str = "") -> Q:
    """Return the condition under which a gateway counts, for Django's queries."""
    return Q(**{f"{prefix}seen_at__gt": Now() - timedelta(seconds=ALIVE_SECONDS)})


def register(server_id: str, *, connections_max: int) -> int:
    """Add this process and return the id under which it counts."""
    gateway = GatewayProcess(server_id=server_id, host=socket.gethostname()[:253], pid=os.getpid())
    gateway.connections_max = connections_max
    gateway.save(force_insert=True)
    return int(gateway.pk)


def beat(gateway_id: int, connections: int, changes: Sequence[tuple[int, Metrics]]) -> bool:
    """Tell that this gateway is alive, and what has changed in it. False: it is not known (any more).

    One statement: nothing is counted for a gateway that somebody else has just taken for dead.
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
    """Return what all other gateways that are alive have in rooms, by room; none where nobody is."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT counted.room_id, {_SUMS} FROM {_ALIVE} WHERE counted.room_id = ANY(%s) "
            "AND counted.gateway_id <> %s GROUP BY counted.room_id",
            [ALIVE_SECONDS, list(room_ids), gateway_id or 0],
        )
        return {room_id: Metrics(*counts) for room_id, *counts in cursor.fetchall()}


def read_room(name: str, gateway_id: int | None) -> tuple[int | None, Metrics]:
    """Return a room's id, None where there is no such room, and what all other gateways have in it."""
    room_id = Room.objects.filter(name=name).values_list("pk", flat=True).first()
    if room_id is None:
        return None, NOBODY
    return room_id, read_others(gateway_id, [room_id]).get(room_id, NOBODY)


def sums_sql() -> tuple[str, float]:
    """Return the SQL of all rooms with somebody in them (id, then the sums as Metrics has them), and its parameter."""
    return f"SELECT counted.room_id, {_SUMS} FROM {_ALIVE} GROUP BY counted.room_id", ALIVE_SECONDS


def read_active(*, prefix: str, after: str, limit: int) -> list[tuple[str, Metrics]]:
    """Return rooms with somebody in them whose names begin with `prefix`, by name, after a name."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT room.name, {_SUMS} FROM {_ALIVE} JOIN rooms_room AS room ON room.id = counted.room_id "
            "WHERE starts_with(room.name, %s) AND room.name > %s GROUP BY room.name ORDER BY room.name LIMIT %s",
            [ALIVE_SECONDS, prefix, after, limit],
        )
        return [(name, Metrics(*counts)) for name, *counts in cursor.fetchall()]


def forget_silent() -> None:
    """Remove gateways that have long been silent, with their counts. Two at once do not wait for each other."""
    with transaction.atomic():
        silent = list(
            GatewayProcess.objects.filter(seen_at__lt=Now() - timedelta(seconds=FORGET_SECONDS))
            .select_for_update(skip_locked=True)
            .values_list("pk", flat=True)
        )
        _remove(silent)


def unregister(gateway_id: int) -> None:
    """Remove this process, which is about to end, and its counts."""
    with transaction.atomic():
        _remove([gateway_id])


def _remove(gateway_ids: list[int]) -> None:
    if gateway_ids:
        with connection.cursor() as cursor:
            # In this order: once the gateway is gone, a heartbeat of it counts nothing.
            cursor.execute("DELETE FROM rooms_gatewayprocess WHERE id = ANY(%s)", [gateway_ids])
            cursor.execute("DELETE FROM rooms_roomoccupancy WHERE gateway_id = ANY(%s)", [gateway_ids])
