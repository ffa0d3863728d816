"""The SQL of messages that wait for a verdict, by their deadlines."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from django.db import connection

from rooms.rows import READ, Row, names, row_of


def find_overdue(now: datetime, limit: int) -> list[Row]:
    """Return messages whose verdict has not come by its deadline."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {names(READ)} FROM rooms_message WHERE status = 'accepted' AND deadline < %s "
            "ORDER BY deadline LIMIT %s",
            [now, limit],
        )
        return [row_of(record) for record in cursor.fetchall()]


def find_awaiting(awaiting: str, after: tuple[datetime, int], limit: int) -> list[tuple[datetime, int, int]]:
    """Return (deadline, primary key, room) of messages that await a step, in that order, after a place in it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT deadline, id, room_id FROM rooms_message WHERE status = 'accepted' AND deadline >= %s "
            "AND (deadline, id) > (%s, %s) AND awaiting = %s ORDER BY deadline, id LIMIT %s",
            [after[0], *after, awaiting, limit],
        )
        return [(deadline, message, room) for deadline, message, room in cursor.fetchall()]


def end_waits(messages: Collection[int], awaiting: str, now: datetime) -> int:
    """Write: let the deadline of messages that still await a step be now. Call under the locks of their rooms."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE rooms_message SET deadline = %s WHERE id = ANY(%s) AND status = 'accepted' AND awaiting = %s "
            "AND deadline > %s RETURNING id",
            [now, list(messages), awaiting, now],
        )
        return len(cursor.fetchall())


def read_clock() -> datetime:
    """Return the moment by Postgres' clock, the one that all hosts share."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        moment: datetime = cursor.fetchone()[0]
        return moment
