"""The SQL of the accepting transaction, in two round trips: read under the locks of the rooms, then insert.

Prepared plans outlive the growth of tables: one made for a small table could scan a large one. So the transaction uses
only indexes and nested loops, and each look-up has one index that fits it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from rooms.database import small_tables
from rooms.database.small_tables import SmallTable
from rooms.database.spread import spread
from rooms.database.statements import Statement, together
from rooms.log import author_queries, message_queries, room_locks
from rooms.log.author_order import Author
from rooms.log.rows import TYPES, LockedRoom, Row, columns_of, names, row_of

Key = tuple[int, str]  # a room's primary key, and a public message id in it

# LIMIT keeps the look-ups apart. A join, planned when the table was analysed nearly empty, reads the whole table once
# instead, and goes on doing so until the next ANALYZE.
_FIND_KNOWN = (
    "SELECT known.id FROM unnest(%b::bigint[], %b::text[]) AS wanted (room_id, message_id) "
    "CROSS JOIN LATERAL (SELECT id FROM rooms_message AS message WHERE message.room_id = wanted.room_id "
    "AND message.message_id = wanted.message_id LIMIT 1) AS known"
)


class LockedRooms(msgspec.Struct, frozen=True):
    """The locked rooms of a batch, and their rows that matter for it. Nobody else changes these until the end."""

    rooms: dict[int, LockedRoom]
    known: dict[Key, Row]  # stored messages that the batch publishes again
    blocked: set[Author]  # authors with undecided messages, for which their new ones must wait
    versions: Mapping[SmallTable, str]  # of the tables of rules, for the review


def read_locked(
    message_ids: Collection[Key], authors: Collection[Author], lock_seconds: float | None = None
) -> LockedRooms:
    """Lock the rooms, in order of their ids; read repeated messages and authors with undecided ones. Writes.

    A room that does not exist is left out. `lock_seconds` limits each wait for a lock of this transaction.
    """
    rooms, ids = zip(*message_ids, strict=True)
    tables = small_tables.tables()
    _, locked, known, blocked, versions = together(
        [
            message_queries.by_index(lock_seconds),
            room_locks.locking(rooms),
            (_FIND_KNOWN, [list(rooms), list(ids)]),
            author_queries.finding_blocked(authors),
            (small_tables.query_of(tables), ()),
        ]
    )
    # Repeats are rare and rows are wide, so they are read by a statement of their own.
    rows = map(row_of, together([(message_queries.READ_ROWS, [[id_ for (id_,) in known]])])[0]) if known else ()
    return LockedRooms(
        rooms=room_locks.locked(locked),
        known={(row.room_id, row.message_id): row for row in rows},
        blocked=set(blocked),
        versions=small_tables.versions_of(tables, versions),
    )


def insert(rows: Sequence[Row], moved: Iterable[LockedRoom], further: Sequence[Statement] = ()) -> None:
    """Insert rows in order, set their primary keys, which grow in that order, and store the moved heads. Writes.

    `further` statements are executed in the same round trip.
    """
    ids, *_ = together([_insertion(rows), room_locks.moving(moved), *further])
    for row, (id_,) in zip(rows, sorted(ids), strict=True):
        row.id = id_


def _insertion(rows: Sequence[Row]) -> Statement:
    """Return the statement that inserts rows."""
    new = spread(dict(zip(TYPES, columns_of(rows, list(TYPES)), strict=True)), TYPES)
    return (
        f"INSERT INTO rooms_message ({names(list(TYPES))}) SELECT {', '.join(new.selected.values())} "
        f"FROM {new.source} ORDER BY place RETURNING id",
        new.values,
    )
