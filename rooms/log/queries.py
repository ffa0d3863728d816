"""The hot SQL of the log, each statement under a name. Callers hold a transaction where the name says write.

Every change of a room's messages happens under the row lock of its room, so that one room has one writer at a
time, serials have no gap, and the order of serials is the order of commits. Rooms are locked in order of their
primary keys: two batches cannot wait for each other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

from django.conf import settings
from django.db import connection

from rooms.database.spread import spread
from rooms.database.statements import Statement, together
from rooms.log.entries import Entry
from rooms.log.rows import READ, TYPES, LockedRoom, Row, columns_of, entry_of, names, row_of

# How far published_at may run back along a room's serials: clocks of several hosts, and waits for the room's lock.
TIME_DISORDER = timedelta(seconds=60)

Key = tuple[int, str]  # a room, and a message id or an author in it

# Plans are kept while the tables grow, and one that was made for a small table could read a large one whole.
BY_INDEX = (
    "SELECT set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true), "
    "set_config('enable_mergejoin', 'off', true), set_config('plan_cache_mode', 'force_generic_plan', true)"
)
READ_ROWS = f"SELECT {names(READ)} FROM rooms_message WHERE id = ANY(%b::bigint[])"
_COLUMNS = names(READ)
CHANGING = [name for name in TYPES if name not in ("room_id", "message_id", "author", "accepted_at", "origin")]


class AnyRoom(Protocol):
    """A room as whoever asks has it: the model, a RoomRef or a LockedRoom."""

    @property
    def id(self) -> int:
        """Primary key."""

    @property
    def name(self) -> str:
        """What clients call it."""

    @property
    def epoch(self) -> str:
        """What its serials carry, so that a room made anew under the same name is another."""


def lock_rooms(room_ids: Iterable[int]) -> dict[int, LockedRoom]:
    """Write: take the row locks of rooms, in order, and return them by id. Missing rooms are left out."""
    with connection.cursor() as cursor:
        cursor.execute(*locking(room_ids))
        return locked(cursor.fetchall())


def move_heads(rooms: Iterable[LockedRoom]) -> None:
    """Write: store the heads of locked rooms."""
    with connection.cursor() as cursor:
        cursor.execute(*moving(rooms))


def locking(room_ids: Iterable[int]) -> Statement:
    """Return the statement of `lock_rooms`; `locked` reads what it returns."""
    return (
        "SELECT id, name, epoch, head FROM rooms_room WHERE id = ANY(%b::bigint[]) ORDER BY id FOR NO KEY UPDATE",
        [sorted(set(room_ids))],
    )


def locked(records: Iterable[Sequence[Any]]) -> dict[int, LockedRoom]:
    """Return rooms by id from what `locking` found."""
    return {id_: LockedRoom(id=id_, name=name, epoch=epoch, head=head) for id_, name, epoch, head in records}


def moving(rooms: Iterable[LockedRoom]) -> Statement:
    """Return the statement of `move_heads`."""
    rooms = list(rooms)
    return (
        "UPDATE rooms_room AS room SET head = moved.head "
        "FROM unnest(%b::bigint[], %b::bigint[]) AS moved (id, head) WHERE room.id = moved.id",
        [[room.id for room in rooms], [room.head for room in rooms]],
    )


def update(rows: Sequence[Row]) -> None:
    """Write: store what changed in rows."""
    if rows:
        together([updating(rows, CHANGING)])


def updating(rows: Sequence[Row], columns: Sequence[str]) -> Statement:
    """Return the statement that stores some columns of rows."""
    values = dict(zip(columns, columns_of(rows, columns), strict=True))
    new = spread({**values, "id": [row.id for row in rows]}, TYPES | {"id": "bigint"}, many=["id"])
    assignments = ", ".join(f'"{name}" = {new.selected[name]}' for name in columns)
    return f"UPDATE rooms_message AS message SET {assignments} FROM {new.source} WHERE message.id = new.id", new.values


def find(ids: Collection[int]) -> dict[int, Row]:
    """Return rows by primary key."""
    rows = _rows(f"SELECT {_COLUMNS} FROM rooms_message WHERE id = ANY(%s)", [list(ids)])
    return {row.id: row for row in rows}


def find_undecided(authors: Collection[tuple[int, str]], decided: Collection[int]) -> list[Row]:
    """Return the accepted and approved messages of (room, author) pairs up to the first that still awaits a verdict.

    In order of acceptance. `decided` are the primary keys of those that await none any more, whatever Postgres says.
    What comes after that first one cannot be published yet, however many thousands it is.
    """
    columns = names(READ, "message")
    return _rows(
        f"SELECT {columns} FROM unnest(%s::bigint[], %s::text[]) AS asked (room_id, author) "
        "LEFT JOIN LATERAL (SELECT id FROM rooms_message WHERE room_id = asked.room_id AND author = asked.author "
        "AND status IN ('accepted', 'approved') AND status = 'accepted' AND id <> ALL(%s::bigint[]) "
        "ORDER BY id LIMIT 1) AS first ON true "
        "JOIN rooms_message AS message ON message.room_id = asked.room_id AND message.author = asked.author "
        "AND message.status IN ('accepted', 'approved') AND message.id < coalesce(first.id, 9223372036854775807) "
        "ORDER BY message.id",
        [[room for room, _ in authors], [author for _, author in authors], list(decided)],
    )


def read_heads(room_ids: Collection[int]) -> dict[int, int]:
    """Return how far rooms reach: one query for all rooms of a gateway."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT id, head FROM rooms_room WHERE id = ANY(%s)", [list(room_ids)])
        return dict(cursor.fetchall())


def read_after(room: AnyRoom, serial: int, limit: int) -> tuple[list[Entry], int]:
    """Return a room's entries after a serial, in order, and how far they reach; at most LOG_PAGE_BYTES of data."""
    page = f"SELECT {_COLUMNS} FROM rooms_message WHERE room_id = room.id AND serial > %s ORDER BY serial LIMIT %s"
    found = _read_page(room, page, [serial, limit], order="serial")
    if found is None:
        return [], serial
    entries, page_rows, head = found
    is_all = not entries or len(entries) == page_rows < limit
    return entries, max(serial, head) if is_all else entries[-1].serial


def read_end(room: AnyRoom, count: int) -> tuple[list[Entry], int, int] | None:
    """Return a room's last `count` entries at most, the serial after which they come, and the room's head.

    None if there is no such room. At most LOG_PAGE_BYTES of data, the newest.
    """
    page = (
        f"SELECT {_COLUMNS} FROM rooms_message WHERE room_id = room.id AND serial IS NOT NULL "
        "ORDER BY serial DESC LIMIT %s"
    )
    found = _read_page(room, page, [count + 1], order="serial DESC")
    if found is None:
        return None
    entries, page_rows, head = found
    if len(entries) == page_rows <= count:
        return entries, 0, head
    return entries[1:], entries[0].serial, head


def _read_page(room: AnyRoom, page: str, values: Sequence[Any], *, order: str) -> tuple[list[Entry], int, int] | None:
    """Return a page's first entries within LOG_PAGE_BYTES, by serial, how many rows it has in all, and the head.

    None if there is no such room. One statement, so that head and entries are of one moment. The head comes with
    each row and, through the outer join, alone where nothing follows.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT room.head, message.page_rows, {names(READ, 'message')} FROM rooms_room AS room LEFT JOIN LATERAL "
            f"({_within_bytes(page, order)}) AS message ON message.bytes_before < %s "
            "WHERE room.id = %s ORDER BY message.serial",
            [*values, settings.LOG_PAGE_BYTES, room.id],
        )
        found = cursor.fetchall()
    if not found:
        return None
    entries = [entry_of(row_of(record[2:]), room.name, room.epoch) for record in found if record[1] is not None]
    head, page_rows = found[0][:2]
    return entries, page_rows or 0, head


def read_last(room: AnyRoom, count: int) -> int:
    """Return the serial after which the last `count` entries of a room come."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT serial FROM rooms_message WHERE room_id = %s AND serial IS NOT NULL "
            "ORDER BY serial DESC OFFSET %s LIMIT 1",
            [room.id, count],
        )
        found = cursor.fetchone()
        return found[0] if found else 0


def read_before_time(room: AnyRoom, moment: datetime, *, after: int) -> int:
    """Return the last serial that was given out before a moment, `after` if none since then was."""
    earliest = max(after, _serial_before(room, moment - TIME_DISORDER))
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT created_serial FROM rooms_message WHERE room_id = %s AND created_serial > %s "
            "AND created_serial <= %s AND published_at < %s ORDER BY created_serial DESC LIMIT 1",
            [room.id, earliest, _serial_before(room, moment + TIME_DISORDER), moment],
        )
        found = cursor.fetchone()
        return found[0] if found else earliest


def _serial_before(room: AnyRoom, moment: datetime) -> int:
    """Return a serial of creation at or below which everything was published before a moment, and above it nothing.

    A binary search, so some twenty probes of an index however long the room is. It takes times to grow with
    serials: whoever uses it allows for TIME_DISORDER.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "WITH RECURSIVE search (low, high) AS ("
            "SELECT 0::bigint, head + 1 FROM rooms_room WHERE id = %(room)s "
            "UNION ALL SELECT coalesce(probe.created_serial, low), "
            "CASE WHEN probe.created_serial IS NULL THEN (low + high) / 2 ELSE high END "
            "FROM search LEFT JOIN LATERAL ("
            "SELECT created_serial FROM ("
            "SELECT created_serial, published_at FROM rooms_message WHERE room_id = %(room)s "
            "AND created_serial >= (low + high) / 2 AND created_serial < high ORDER BY created_serial LIMIT 1"
            ") AS first WHERE published_at < %(moment)s) AS probe ON true WHERE high - low > 1"
            ") SELECT max(low) FROM search",
            {"room": room.id, "moment": moment},
        )
        found = cursor.fetchone()
        return (found[0] if found else None) or 0


def read_history(
    room: AnyRoom,
    *,
    start: datetime | None,
    end: datetime | None,
    after: int | None,
    before: int | None,
    forwards: bool,
    limit: int,
) -> tuple[list[Row], bool]:
    """Return published messages by their place of creation, and whether more follow.

    `after` and `before` are exclusive bounds. A page ends at `limit` messages or LOG_PAGE_BYTES of data.
    """
    # Times alone would be looked for in every message of the room: first find the serials around them.
    if start is not None:
        after = max(after or 0, _serial_before(room, start - TIME_DISORDER))
    if end is not None:
        latest = _serial_before(room, end + TIME_DISORDER) + 1
        before = latest if before is None else min(before, latest)
    conditions = ["room_id = %s", "created_serial IS NOT NULL"]
    values: list[Any] = [room.id]
    for condition, value in (
        ("published_at >= %s", start),
        ("published_at <= %s", end),
        ("created_serial > %s", after),
        ("created_serial < %s", before),
    ):
        if value is not None:
            conditions.append(condition)
            values.append(value)
    order = f"created_serial {'ASC' if forwards else 'DESC'}"
    page = f"SELECT {_COLUMNS} FROM rooms_message WHERE {' AND '.join(conditions)} ORDER BY {order} LIMIT %s"
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT page_rows, {_COLUMNS} FROM ({_within_bytes(page, order)}) AS message "
            f"WHERE bytes_before < %s ORDER BY {order}",
            [*values, limit + 1, settings.LOG_PAGE_BYTES],
        )
        found = cursor.fetchall()
    rows = [row_of(record[1:]) for record in found[:limit]]
    return rows, bool(found) and found[0][0] > len(rows)


def _within_bytes(page: str, order: str) -> str:
    """Return a query for a page's rows, each with how many bytes of data come before it and how many rows there are.

    octet_length reads the size of large data without the data.
    """
    size = 'coalesce(octet_length("text"), 0) + coalesce(octet_length("binary"), 0)'
    return (
        f"SELECT page.*, count(*) OVER () AS page_rows, "
        f"coalesce(sum({size}) OVER (ORDER BY {order} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) "
        f"AS bytes_before FROM ({page}) AS page"
    )


def _rows(sql: str, values: Sequence[Any]) -> list[Row]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return [row_of(record) for record in cursor.fetchall()]
