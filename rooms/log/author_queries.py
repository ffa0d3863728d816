"""Reads the lines of authors: the undecided messages of an author in a room, oldest first.

rooms.log.author_order decides which of them are ready. The partial index `message_undecided` serves all queries.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from django.db import connection

from rooms.database.statements import Statement
from rooms.log.author_order import UNDECIDED, Author, OldestOther
from rooms.log.rows import READ, Row, names, row_of
from rooms.models import Status

# A literal, not a parameter: the planner uses a partial index only for a query with the index's own condition.
_IS_UNDECIDED = f"status IN ({', '.join(repr(status.value) for status in UNDECIDED)})"

_FIND_BLOCKED = (
    "SELECT wanted.room_id, wanted.author FROM unnest(%b::bigint[], %b::text[]) AS wanted (room_id, author) "
    "CROSS JOIN LATERAL (SELECT FROM rooms_message AS message WHERE message.room_id = wanted.room_id "
    f"AND message.author = wanted.author AND {_IS_UNDECIDED} LIMIT 1) AS first"
)
_FIND_OLDEST_OTHERS = (
    "SELECT wanted.room_id, wanted.author, other.id, other.status "
    "FROM (SELECT DISTINCT room_id, author FROM rooms_message WHERE id = ANY(%b::bigint[])) AS wanted "
    "CROSS JOIN LATERAL (SELECT id, status FROM rooms_message AS message WHERE message.room_id = wanted.room_id "
    f"AND message.author = wanted.author AND {_IS_UNDECIDED} AND id <> ALL(%b::bigint[]) "
    "ORDER BY id LIMIT 1) AS other"
)


def finding_blocked(authors: Collection[Author]) -> Statement:
    """Return the statement that selects those of the authors who have undecided messages, as (room, author)."""
    return _FIND_BLOCKED, [[room for room, _ in authors], [author for _, author in authors]]


def finding_oldest_others(messages: Sequence[int]) -> Statement:
    """Return the statement that selects each author's oldest undecided message apart from these (primary keys).

    `oldest_others` reads its result.
    """
    return _FIND_OLDEST_OTHERS, [messages, messages]


def oldest_others(records: Collection[Sequence[Any]]) -> dict[Author, OldestOther]:
    """Return the result of `finding_oldest_others`, by author."""
    return {(room, author): OldestOther(id_, Status(status)) for room, author, id_, status in records}


def read_lines(authors: Collection[Author], decided: Collection[int]) -> list[Row]:
    """Return the undecided messages of authors up to the first of each that still awaits a verdict.

    In order of acceptance. `decided` are primary keys of messages that the transaction has decided but not stored: in
    Postgres they still await a verdict. Messages after an author's first waiting one, be they thousands, are not read.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {names(READ, 'message')} FROM unnest(%s::bigint[], %s::text[]) AS wanted (room_id, author) "
            "LEFT JOIN LATERAL (SELECT id FROM rooms_message WHERE room_id = wanted.room_id AND author = wanted.author "
            f"AND {_IS_UNDECIDED} AND status = 'accepted' AND id <> ALL(%s::bigint[]) "
            "ORDER BY id LIMIT 1) AS first ON true "
            "JOIN rooms_message AS message ON message.room_id = wanted.room_id AND message.author = wanted.author "
            f"AND message.{_IS_UNDECIDED} AND message.id < coalesce(first.id, 9223372036854775807) "
            "ORDER BY message.id",
            [[room for room, _ in authors], [author for _, author in authors], list(decided)],
        )
        return [row_of(record) for record in cursor.fetchall()]
