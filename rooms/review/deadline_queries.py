"""The SQL of deadlines: finds messages whose verdict is overdue, and ends the waits for a step."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from django.db import connection


def lock_overdue(now: datetime, limit: int) -> list[tuple[int, str, str]]:
    """Return overdue messages, longest overdue first, and lock their rooms. Writes.

    As (primary key, awaited step, verdict at the deadline). Rooms that another transaction has locked are skipped.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT message.id, message.awaiting, message.at_deadline FROM rooms_message AS message "
            "JOIN rooms_room AS room ON room.id = message.room_id "
            "WHERE message.status = 'accepted' AND message.deadline < %s "
            "ORDER BY message.deadline LIMIT %s FOR NO KEY UPDATE OF room SKIP LOCKED",
            [now, limit],
        )
        return [(message, awaiting, at_deadline) for message, awaiting, at_deadline in cursor.fetchall()]


def find_rooms_overdue(now: datetime, limit: int) -> list[int]:
    """Return the rooms of the messages that are overdue for longest; `limit` is in messages."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT room_id FROM (SELECT room_id FROM rooms_message WHERE status = 'accepted' "
            "AND deadline < %s ORDER BY deadline LIMIT %s) AS overdue",
            [now, limit],
        )
        return [room for (room,) in cursor.fetchall()]


def find_awaiting(awaiting: str, after: tuple[datetime, int], limit: int) -> list[tuple[datetime, int, int]]:
    """Return (deadline, primary key, room) of messages that await a step, sorted, after the place `after`."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT deadline, id, room_id FROM rooms_message WHERE status = 'accepted' AND deadline >= %s "
            "AND (deadline, id) > (%s, %s) AND awaiting = %s ORDER BY deadline, id LIMIT %s",
            [after[0], *after, awaiting, limit],
        )
        return [(deadline, message, room) for deadline, message, room in cursor.fetchall()]


def end_waits(messages: Collection[int], awaiting: str, now: datetime) -> int:
    """Set the deadline of messages that still await a step to now. Call under the locks of their rooms. Writes.

    One UPDATE instead of rooms.log.lifecycle, which would need the rows in memory.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE rooms_message SET deadline = %s WHERE id = ANY(%s) AND status = 'accepted' AND awaiting = %s "
            "AND deadline > %s RETURNING id",
            [now, list(messages), awaiting, now],
        )
        return len(cursor.fetchall())


def read_clock() -> datetime:
    """Return the time of Postgres' clock, which all hosts share."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        moment: datetime = cursor.fetchone()[0]
        return moment
