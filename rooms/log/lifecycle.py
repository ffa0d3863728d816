"""Making messages visible: the one place where serials are given out. Called under the locks of the rooms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from rooms.log import signals
from rooms.log.entries import Entry
from rooms.log.rows import LockedRoom, Row, entry_of
from rooms.models import Status


def publish(row: Row, room: LockedRoom, now: datetime) -> None:
    """Give a row its serial and make it visible. The caller stores row and head."""
    assert row.serial is None and row.room_id == room.id
    row.status = Status.PUBLISHED
    row.serial = row.created_serial = room.next_serial()
    row.published_at = now
    row.awaiting, row.deadline, row.at_deadline = "", None, ""


def move(row: Row, room: LockedRoom, now: datetime) -> None:
    """Give a published row that was changed the next place in the log. The caller stores row and head."""
    assert row.serial is not None and row.room_id == room.id
    row.serial = room.next_serial()
    row.changed_at = now


def take_ready(undecided: Iterable[Row]) -> list[Row]:
    """Return the approved rows that no undecided earlier message of the same author holds back.

    `undecided` are rows in order of acceptance, accepted and approved ones.
    """
    waiting: set[tuple[int, str]] = set()
    ready: list[Row] = []
    for row in undecided:
        key = (row.room_id, row.author)
        if row.status == Status.ACCEPTED:
            waiting.add(key)
        elif row.status == Status.APPROVED and key not in waiting:
            ready.append(row)
    return ready


def entries_of(rows: Sequence[Row], rooms: dict[int, LockedRoom]) -> list[Entry]:
    """Return rows that got a serial as the log's entries."""
    return [entry_of(row, (room := rooms[row.room_id]).name, room.epoch) for row in rows]


def tell(entries: list[Entry], rooms: dict[int, LockedRoom]) -> list[Entry]:
    """Write: tell the apps (their outbox) of newly published messages, in the same transaction. Return them."""
    if entries:
        signals.messages_published.send(sender=None, entries=entries, rooms=rooms)
    return entries
