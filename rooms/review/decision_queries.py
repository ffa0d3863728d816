"""The SQL of decisions, in two round trips: read under the locks of the rooms, then store."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from rooms.database import small_tables
from rooms.database.small_tables import SmallTable
from rooms.database.statements import together
from rooms.log import author_queries, message_queries, room_locks
from rooms.log.author_order import Author, OldestOther
from rooms.log.rows import LockedRoom, Row, row_of
from rooms.review import verdict_history
from rooms.review.verdict_history import StepVerdict

# A message never changes its room, so its room may be read before the room is locked.
_LOCK_ROOMS = (
    "SELECT id, name, epoch, head FROM rooms_room WHERE id = ANY(ARRAY("
    "SELECT room_id FROM rooms_message WHERE id = ANY(%b::bigint[]))) ORDER BY id FOR NO KEY UPDATE"
)
_STATE = ("status", "serial", "created_serial", "published_at", "awaiting", "deadline", "at_deadline")


class Undecided(msgspec.Struct, frozen=True):
    """The messages of decisions, read under the locks of their rooms."""

    rooms: dict[int, LockedRoom]
    rows: dict[int, Row]  # by primary key; callers change them
    contents: dict[int, tuple[Any, ...]]  # of the rows as they were read: changed ones must be stored
    oldest_others: dict[Author, OldestOther]
    versions: Mapping[SmallTable, str]  # of the rules for the steps that follow


def read_locked(messages: Collection[int], lock_seconds: float | None = None) -> Undecided:
    """Lock the rooms of messages (primary keys), in order of their ids, and read what decisions need. Writes.

    `lock_seconds` limits each wait for a lock of this transaction.
    """
    ids = sorted(set(messages))
    tables = small_tables.tables()
    _, rooms, records, others, versions = together(
        [
            message_queries.by_index(lock_seconds),
            (_LOCK_ROOMS, [ids]),
            (message_queries.READ_ROWS, [ids]),
            author_queries.finding_oldest_others(ids),
            (small_tables.query_of(tables), ()),
        ]
    )
    locked = room_locks.locked(rooms)
    rows = {row.id: row for row in map(row_of, records) if row.room_id in locked}
    return Undecided(
        rooms=locked,
        rows=rows,
        contents={row.id: _content_of(row) for row in rows.values()},
        oldest_others=author_queries.oldest_others(others),
        versions=small_tables.versions_of(tables, versions),
    )


def store(rows: Iterable[Row], undecided: Undecided, verdicts: Sequence[StepVerdict], now: datetime) -> None:
    """Store rows that changed, the verdicts that changed them, and the heads of rooms that gave out serials. Writes."""
    plain: list[Row] = []
    rewritten: list[Row] = []
    moved: dict[int, LockedRoom] = {}
    for row in rows:
        # Most messages are published unchanged: their texts need not be sent to Postgres once more.
        (plain if undecided.contents.get(row.id) in (None, _content_of(row)) else rewritten).append(row)
        if row.serial is not None:
            moved[row.room_id] = undecided.rooms[row.room_id]
    statements = [message_queries.updating(plain, _STATE)] if plain else []
    statements += [message_queries.updating(rewritten, message_queries.CHANGING)] if rewritten else []
    statements += [verdict_history.adding(verdicts, now)] if verdicts else []
    statements += [room_locks.moving(moved.values())] if moved else []
    if statements:
        together(statements)


def _content_of(row: Row) -> tuple[Any, ...]:
    return row.content, row.error_code, row.reason, row.detail
