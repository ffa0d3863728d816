"""The SQL of waiting for verdicts: who waits until when, and what was said before."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from django.db import connection

from rooms.review.contract import Action, Verdict


def lock_overdue(now: datetime, limit: int) -> list[tuple[int, str, str]]:
    """Write: lock rooms, and return messages in them whose verdict has not come in time, those that wait longest first.

    As (primary key, awaited step, verdict at the deadline). Waits for no lock: rooms that another transaction holds
    are passed over.
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
    """Return the rooms of the messages that have been overdue for longest, so many messages at most."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT room_id FROM (SELECT room_id FROM rooms_message WHERE status = 'accepted' "
            "AND deadline < %s ORDER BY deadline LIMIT %s) AS overdue",
            [now, limit],
        )
        return [room for (room,) in cursor.fetchall()]


def find_decided(messages: Collection[int]) -> list[int]:
    """Return which of these messages (primary keys) wait for nothing any more, or for a moderator."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id FROM rooms_message WHERE id = ANY(%s) AND status NOT IN ('accepted', 'approved')",
            [list(messages)],
        )
        return [message for (message,) in cursor.fetchall()]


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


def read_words(messages: Collection[int]) -> dict[int, list[tuple[str, Action]]]:
    """Return who said what of messages (primary keys), in order."""
    words: dict[int, list[tuple[str, Action]]] = {}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT message_id, step, action FROM rooms_verdict WHERE message_id = ANY(%s) ORDER BY id",
            [list(messages)],
        )
        for message, step, action in cursor.fetchall():
            words.setdefault(message, []).append((step, Action(action)))
    return words


def read_editors(messages: Collection[int]) -> dict[int, list[str]]:
    """Return who or what changed messages (primary keys) after they were published."""
    if not messages:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT message_id, array_agg(DISTINCT replaced_by) FROM rooms_messageversion "
            "WHERE message_id = ANY(%s) GROUP BY message_id",
            [list(messages)],
        )
        return dict(cursor.fetchall())


def read_last_words(messages: Collection[int]) -> dict[int, tuple[str, Verdict]]:
    """Return who spoke last of each of these messages (primary keys), and what was said."""
    if not messages:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT ON (message_id) message_id, step, action, reason FROM rooms_verdict "
            "WHERE message_id = ANY(%s) ORDER BY message_id, id DESC",
            [list(messages)],
        )
        return {
            message: (step, Verdict(action=Action(action), reason=reason))
            for message, step, action, reason in cursor.fetchall()
        }


def read_clock() -> datetime:
    """Return the moment by Postgres' clock, the one that all hosts share."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        moment: datetime = cursor.fetchone()[0]
        return moment
