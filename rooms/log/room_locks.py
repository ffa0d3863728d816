"""Takes the row locks of rooms, under which their logs are written, and stores their heads.

Every change of a room's messages happens under the row lock of its room, so that one room has one writer at a
time, serials have no gap, and the order of serials is the order of commits. Rooms are locked in order of their
primary keys: two batches cannot wait for each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.db import OperationalError, connection, transaction

from rooms.database.patience import is_lock_timeout, limit_lock_waits
from rooms.database.statements import Statement, fetch
from rooms.log.rows import LockedRoom

LOCK_SECONDS = 1.0  # gateways that write to one room hold its lock for milliseconds, an overloaded one for tenths


def lock_rooms(room_ids: Iterable[int]) -> dict[int, LockedRoom]:
    """Take the row locks of rooms, in order, and return the rooms by id. Missing rooms are left out. Writes."""
    with connection.cursor() as cursor:
        cursor.execute(*locking(room_ids))
        return locked(cursor.fetchall())


def lock_unless_stuck(room_ids: Iterable[int]) -> set[int]:
    """Take the row locks of rooms, in order, but of none that stays locked for LOCK_SECONDS. Return their ids. Writes.

    Call it in a transaction. When a wait was too long, all rooms that are locked at that moment are left out.
    """
    ids = sorted(set(room_ids))
    try:
        with transaction.atomic():
            limit_lock_waits(LOCK_SECONDS)
            return set(lock_rooms(ids))
    except OperationalError as error:
        if not is_lock_timeout(error):
            raise
    free = fetch("SELECT id FROM rooms_room WHERE id = ANY(%(ids)s) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED", ids=ids)
    return {room_id for (room_id,) in free}


def find_locked(room_ids: Iterable[int]) -> set[int]:
    """Return those of the rooms that another transaction has locked, without waiting for a lock."""
    records = fetch(
        "WITH free AS (SELECT id FROM rooms_room WHERE id = ANY(%(ids)s) FOR NO KEY UPDATE SKIP LOCKED) "
        "SELECT id FROM rooms_room WHERE id = ANY(%(ids)s) AND id NOT IN (SELECT id FROM free)",
        ids=list(room_ids),
    )
    return {room_id for (room_id,) in records}


def move_heads(rooms: Iterable[LockedRoom]) -> None:
    """Store the heads of locked rooms. Writes."""
    with connection.cursor() as cursor:
        cursor.execute(*moving(rooms))


def locking(room_ids: Iterable[int]) -> Statement:
    """Return the statement of `lock_rooms`; `locked` reads its result."""
    return (
        "SELECT id, name, epoch, head FROM rooms_room WHERE id = ANY(%b::bigint[]) ORDER BY id FOR NO KEY UPDATE",
        [sorted(set(room_ids))],
    )


def locked(records: Iterable[Sequence[Any]]) -> dict[int, LockedRoom]:
    """Return the rooms of the result of `locking`, by id."""
    return {id_: LockedRoom(id=id_, name=name, epoch=epoch, head=head) for id_, name, epoch, head in records}


def moving(rooms: Iterable[LockedRoom]) -> Statement:
    """Return the statement of `move_heads`."""
    rooms = list(rooms)
    return (
        "UPDATE rooms_room AS room SET head = moved.head "
        "FROM unnest(%b::bigint[], %b::bigint[]) AS moved (id, head) WHERE room.id = moved.id",
        [[room.id for room in rooms], [room.head for room in rooms]],
    )
