"""The SQL of the accepting transaction, in two round trips: look under the rooms' locks, then store.

Plans are kept while the tables grow, and one that was made for a small table could read a large one whole. So the
transaction goes by indexes and nested loops alone, and each look-up has one index that can serve it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from rooms.database import small_tables
from rooms.database.small_tables import SmallTable
from rooms.database.spread import spread
from rooms.database.statements import Statement, together
from rooms.log import queries
from rooms.log.queries import BY_INDEX, READ_ROWS, Key
from rooms.log.rows import TYPES, LockedRoom, Row, columns_of, names, row_of

_FIND_KNOWN = (
    "SELECT message.id FROM unnest(%b::bigint[], %b::text[]) AS asked (room_id, message_id) "
    "JOIN rooms_message AS message USING (room_id, message_id)"
)
_FIND_BUSY = (
    "SELECT asked.room_id, asked.author FROM unnest(%b::bigint[], %b::text[]) AS asked (room_id, author) "
    "CROSS JOIN LATERAL (SELECT FROM rooms_message AS message WHERE message.room_id = asked.room_id "
    "AND message.author = asked.author AND status IN ('accepted', 'approved') LIMIT 1) AS first"
)


class Found(msgspec.Struct, frozen=True):
    """What the rooms of a batch hold already. Nobody else changes them until the transaction ends."""

    rooms: dict[int, LockedRoom]
    known: dict[Key, Row]  # by (room, message id): publishes that are repeats
    busy: set[Key]  # (room, author) pairs with messages that are not decided yet: their later ones must wait
    versions: Mapping[SmallTable, str]  # of the rules that the batch is reviewed by


def look(message_ids: Collection[Key], authors: Collection[Key]) -> Found:
    """Write: lock the rooms, in order of their ids, and find what concerns these messages and authors.

    A room that does not exist is left out.
    """
    by_id, by_author = list(zip(*message_ids, strict=True)), list(zip(*authors, strict=True))
    tables = small_tables.tables()
    _, rooms, known, busy, versions = together(
        [
            (BY_INDEX, ()),
            queries.locking(by_id[0]),
            (_FIND_KNOWN, [list(by_id[0]), list(by_id[1])]),
            (_FIND_BUSY, [list(by_author[0]), list(by_author[1])]),
            (small_tables.query_of(tables), ()),
        ]
    )
    # Repeats are rare, and a row is wide: it is read only where there is one.
    rows = map(row_of, together([(READ_ROWS, [[id_ for (id_,) in known]])])[0]) if known else ()
    return Found(
        rooms=queries.locked(rooms),
        known={(row.room_id, row.message_id): row for row in rows},
        busy=set(busy),
        versions=small_tables.versions_of(tables, versions),
    )


def store(rows: Sequence[Row], moved: Iterable[LockedRoom], further: Sequence[Statement] = ()) -> None:
    """Write: insert rows in order, fill in their primary keys, which grow in that order, and store heads that moved.

    Further statements of the caller go along in the same round trip.
    """
    ids, *_ = together([_insertion(rows), queries.moving(moved), *further])
    for row, (id_,) in zip(rows, sorted(ids), strict=True):
        row.id = id_


def _insertion(rows: Sequence[Row]) -> Statement:
    """Return the INSERT of rows."""
    new = spread(dict(zip(TYPES, columns_of(rows, list(TYPES)), strict=True)), TYPES)
    return (
        f"INSERT INTO rooms_message ({names(list(TYPES))}) SELECT {', '.join(new.selected.values())} "
        f"FROM {new.source} ORDER BY place RETURNING id",
        new.values,
    )
