"""Removes rooms that clients made and that have neither messages nor members, a bounded number at a time.

Each gateway does it, so rooms of a killed gateway are removed too. A room stays for good once it has a message, a title
or a place on the page; it stays for now while a gateway counts members in it, or an app needs it.
"""

from __future__ import annotations

from django.db import transaction

from rooms.database.statements import fetch
from rooms.log import signals
from rooms.occupancy.store import FORGET_SECONDS

MAX_ROOMS = 500  # checked in one sweep
USED_SECONDS = 300.0  # until a room that is in use is checked again

# Selects nothing while a gateway is new (all are, after Postgres lost their counts): its members are not counted yet.
_LOCK_DUE = """
SELECT id FROM rooms_room
WHERE unused_after < clock_timestamp() AND NOT EXISTS (
    SELECT FROM rooms_gatewayprocess WHERE started_at > clock_timestamp() - make_interval(secs => %(new)s)
)
ORDER BY unused_after LIMIT %(limit)s FOR UPDATE SKIP LOCKED
"""
_KEEP = """
UPDATE rooms_room AS room SET unused_after = NULL, made_by = NULL
WHERE id = ANY(%(rooms)s) AND (
    head > 0 OR listed OR title <> '' OR description <> ''
    OR EXISTS (SELECT FROM rooms_message WHERE room_id = room.id)
)
RETURNING id
"""
_FIND_OCCUPIED = "SELECT DISTINCT room_id FROM rooms_roomoccupancy WHERE room_id = ANY(%(rooms)s)"
_LOOK_LATER = """
UPDATE rooms_room SET unused_after = clock_timestamp() + make_interval(secs => %(seconds)s) WHERE id = ANY(%(rooms)s)
"""
_REMOVE = "DELETE FROM rooms_room WHERE id = ANY(%(rooms)s)"


def sweep() -> int:
    """Remove unused rooms, and return how many. Concurrent sweeps wait neither for each other nor for a publish.

    Whether a room is unused is read after it is locked: a publish or a new member comes either before or after.
    """
    with transaction.atomic():
        due = _ids(_LOCK_DUE, new=FORGET_SECONDS, limit=MAX_ROOMS)
        rooms = due - (_ids(_KEEP, rooms=list(due)) if due else set())
        if not rooms:
            return 0
        unused = rooms - _ids(_FIND_OCCUPIED, rooms=list(rooms))
        if unused:
            signals.rooms_unused.send(sender=None, rooms=unused)
        fetch(_LOOK_LATER, rooms=list(rooms - unused), seconds=USED_SECONDS)
        fetch(_REMOVE, rooms=list(unused))
    return len(unused)


def _ids(sql: str, **values: object) -> set[int]:
    return {room_id for (room_id,) in fetch(sql, **values)}
