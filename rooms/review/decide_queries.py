"""The SQL of decisions, in two round trips: read under the locks of the rooms, then store."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from rooms.database import small_tables
from rooms.database.small_tables import SmallTable
from rooms.database.statements import together
from rooms.log import queries
from rooms.log.queries import BY_INDEX, READ_ROWS, Key
from rooms.log.rows import LockedRoom, Row, row_of
from rooms.models import Status
from rooms.review.verdict_history import Word, recording

# A message never changes its room: which rooms to lock may be read before they are.
_LOCK_ROOMS = (
    "SELECT id, name, epoch, head FROM rooms_room WHERE id = ANY(ARRAY("
    "SELECT room_id FROM rooms_message WHERE id = ANY(%b::bigint[]))) ORDER BY id FOR NO KEY UPDATE"
)
_FIND_NEXT = (
    "SELECT asked.room_id, asked.author, next.id, next.status "
    "FROM (SELECT DISTINCT room_id, author FROM rooms_message WHERE id = ANY(%b::bigint[])) AS asked "
    "CROSS JOIN LATERAL (SELECT id, status FROM rooms_message AS message WHERE message.room_id = asked.room_id "
    "AND message.author = asked.author AND status IN ('accepted', 'approved') AND id <> ALL(%b::bigint[]) "
    "ORDER BY id LIMIT 1) AS next"
)
_STATE = ("status", "serial", "created_serial", "published_at", "awaiting", "deadline", "at_deadline")


class Found(msgspec.Struct, frozen=True):
    """The messages that decisions are about, as they stand under the locks of their rooms."""

    rooms: dict[int, LockedRoom]
    rows: dict[int, Row]  # by primary key; callers change them
    says: dict[int, tuple[Any, ...]]  # what the rows said: to tell which must be written anew
    next: dict[Key, tuple[int, Status]]  # the first undecided message of each of their authors, beside these
    versions: Mapping[SmallTable, str]  # of the rules by which reviews go on


def look(messages: Collection[int]) -> Found:
    """Write: lock the rooms of messages (primary keys), in order of their ids, and read what decisions need."""
    ids = sorted(set(messages))
    tables = small_tables.tables()
    _, rooms, records, following, versions = together(
        [
            (BY_INDEX, ()),
            (_LOCK_ROOMS, [ids]),
            (READ_ROWS, [ids]),
            (_FIND_NEXT, [ids, ids]),
            (small_tables.query_of(tables), ()),
        ]
    )
    locked = queries.locked(rooms)
    rows = {row.id: row for row in map(row_of, records) if row.room_id in locked}
    return Found(
        rooms=locked,
        rows=rows,
        says={row.id: _says(row) for row in rows.values()},
        next={(room, author): (message, Status(status)) for room, author, message, status in following},
        versions=small_tables.versions_of(tables, versions),
    )


def store(rows: Iterable[Row], found: Found, words: Sequence[Word], now: datetime) -> None:
    """Write: store rows that changed, the words that changed them, and the heads of rooms that gave out serials."""
    plain: list[Row] = []
    rewritten: list[Row] = []
    moved: dict[int, LockedRoom] = {}
    for row in rows:
        # Most messages are published as they are: their texts need not travel once more.
        (plain if found.says.get(row.id) in (None, _says(row)) else rewritten).append(row)
        if row.serial is not None:
            moved[row.room_id] = found.rooms[row.room_id]
    statements = [queries.updating(plain, _STATE)] if plain else []
    statements += [queries.updating(rewritten, queries.CHANGING)] if rewritten else []
    statements += [recording(words, now)] if words else []
    statements += [queries.moving(moved.values())] if moved else []
    if statements:
        together(statements)


def _says(row: Row) -> tuple[Any, ...]:
    return row.content, row.error_code, row.reason, row.detail
