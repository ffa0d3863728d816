"""The hot SQL of the log, each statement under a name. Callers hold a transaction where the name says write.

Every change of a room's messages happens under the row lock of its room, so that one room has one writer at a
time, serials have no gap, and the order of serials is the order of commits. Rooms are locked in order of their
primary keys: two batches cannot wait for each other.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection

from rooms.log import Entry
from rooms.models import MessageAction, Status
from rooms.payload import size_of
from rooms.review import Content
from rooms.serials import encode
from rooms.wire import Message, Version

PAGE_MAX_BYTES = 8_388_608  # of data in one page of history or one read to catch up; the last row may exceed it
ENTRY_OVERHEAD_BYTES = 400  # ids, serials and the structs themselves, measured


@dataclass(slots=True, kw_only=True)
class LockedRoom:
    """A room under its row lock; `head` grows as serials are given out."""

    id: int
    name: str
    epoch: str
    head: int

    def next_serial(self) -> int:
        """Give out the next place in the log."""
        self.head += 1
        return self.head


@dataclass(slots=True, kw_only=True)
class Row:
    """One row of rooms_message, as far as the log needs it."""

    room_id: int
    message_id: str
    author: str
    client_id: str | None
    connection_id: str | None
    content: Content
    status: Status
    accepted_at: datetime
    id: int = 0
    action: int = MessageAction.CREATE
    serial: int | None = None
    created_serial: int | None = None
    published_at: datetime | None = None
    changed_at: datetime | None = None
    awaiting: str = ""
    deadline: datetime | None = None
    at_deadline: str = ""
    error_code: int | None = None
    reason: str = ""
    detail: dict[str, Any] | None = None
    origin: str = ""


COLUMNS = (
    "id, room_id, message_id, author, client_id, connection_id, name, text, binary, encoding, extras, status, "
    "accepted_at, action, serial, created_serial, published_at, changed_at, awaiting, deadline, at_deadline, "
    "error_code, reason, detail, origin"
)
COLUMNS = ", ".join(f'"{column.strip()}"' for column in COLUMNS.split(","))
# Writable columns in the order of INSERT, with the array type that carries them.
TYPES = {
    "room_id": "bigint", "message_id": "text", "author": "text", "client_id": "text", "connection_id": "text",
    "name": "text", "text": "text", "binary": "bytea", "encoding": "text", "extras": "jsonb", "status": "text",
    "accepted_at": "timestamptz", "action": "smallint", "serial": "bigint", "created_serial": "bigint",
    "published_at": "timestamptz", "changed_at": "timestamptz", "awaiting": "text", "deadline": "timestamptz",
    "at_deadline": "text", "error_code": "int", "reason": "text", "detail": "jsonb", "origin": "text",
}  # fmt: skip
_NAMES = ", ".join(f'"{name}"' for name in TYPES)
_ARRAYS = ", ".join(f"%s::{kind}[]" for kind in TYPES.values())
_CHANGING = [name for name in TYPES if name not in ("room_id", "message_id", "author", "accepted_at", "origin")]
_CHANGING_NAMES = ", ".join(f'"{name}"' for name in _CHANGING)
_CHANGING_ARRAYS = ", ".join(f"%s::{TYPES[name]}[]" for name in _CHANGING)
_ASSIGNMENTS = ", ".join(f'"{name}" = new."{name}"' for name in _CHANGING)


def lock_rooms(room_ids: Iterable[int]) -> dict[int, LockedRoom]:
    """Write: take the row locks of rooms, in order, and return them by id. Missing rooms are left out."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id, name, epoch, head FROM rooms_room WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE",
            [sorted(set(room_ids))],
        )
        return {
            id_: LockedRoom(id=id_, name=name, epoch=epoch, head=head) for id_, name, epoch, head in cursor.fetchall()
        }


def move_heads(rooms: Iterable[LockedRoom]) -> None:
    """Write: store the heads of locked rooms."""
    rooms = list(rooms)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE rooms_room AS room SET head = moved.head "
            "FROM unnest(%s::bigint[], %s::bigint[]) AS moved (id, head) WHERE room.id = moved.id",
            [[room.id for room in rooms], [room.head for room in rooms]],
        )


def find_by_message_id(keys: Collection[tuple[int, str]]) -> dict[tuple[int, str], Row]:
    """Return the rows that already have one of the (room, message id) pairs: publishes that are repeats."""
    return {
        (row.room_id, row.message_id): row
        for row in _rows(
            f"SELECT {COLUMNS} FROM rooms_message WHERE (room_id, message_id) IN "
            "(SELECT * FROM unnest(%s::bigint[], %s::text[]))",
            [[room for room, _ in keys], [message_id for _, message_id in keys]],
        )
    }


def find_busy_authors(authors: Collection[tuple[int, str]]) -> set[tuple[int, str]]:
    """Return those of the (room, author) pairs with messages that are not decided yet: their later ones must wait."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT room_id, author FROM unnest(%s::bigint[], %s::text[]) AS asked (room_id, author) WHERE EXISTS ("
            "SELECT FROM rooms_message AS message WHERE message.room_id = asked.room_id "
            "AND message.author = asked.author AND status IN ('accepted', 'approved'))",
            [[room for room, _ in authors], [author for _, author in authors]],
        )
        return set(cursor.fetchall())


def insert(rows: Sequence[Row]) -> None:
    """Write: insert rows in order and fill in their primary keys, which grow in that order."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO rooms_message ({_NAMES}) SELECT {_NAMES} "
            f"FROM unnest({_ARRAYS}) WITH ORDINALITY AS new ({_NAMES}, place) ORDER BY place "
            "RETURNING room_id, message_id, id",
            _columns_of(rows, list(TYPES)),
        )
        ids = {(room_id, message_id): id_ for room_id, message_id, id_ in cursor.fetchall()}
    for row in rows:
        row.id = ids[row.room_id, row.message_id]


def update(rows: Sequence[Row]) -> None:
    """Write: store what changed in rows."""
    if not rows:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE rooms_message AS message SET {_ASSIGNMENTS} FROM "
            f"unnest(%s::bigint[], {_CHANGING_ARRAYS}) AS new (id, {_CHANGING_NAMES}) WHERE message.id = new.id",
            [[row.id for row in rows], *_columns_of(rows, _CHANGING)],
        )


def find(ids: Collection[int]) -> dict[int, Row]:
    """Return rows by primary key."""
    rows = _rows(f"SELECT {COLUMNS} FROM rooms_message WHERE id = ANY(%s)", [list(ids)])
    return {row.id: row for row in rows}


def find_undecided(authors: Collection[tuple[int, str]], decided: Collection[int]) -> list[Row]:
    """Return the accepted and approved messages of (room, author) pairs up to the first that still awaits a verdict.

    In order of acceptance. `decided` are the primary keys of those that await none any more, whatever Postgres says.
    What comes after that first one cannot be published yet, however many thousands it is.
    """
    columns = ", ".join(f"message.{column.strip()}" for column in COLUMNS.split(","))
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


def find_overdue(now: datetime, limit: int) -> list[Row]:
    """Return messages whose verdict has not come by its deadline."""
    return _rows(
        f"SELECT {COLUMNS} FROM rooms_message WHERE status = 'accepted' AND deadline < %s ORDER BY deadline LIMIT %s",
        [now, limit],
    )


def read_heads(room_ids: Collection[int]) -> dict[int, int]:
    """Return how far rooms reach: one query for all rooms of a gateway."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT id, head FROM rooms_room WHERE id = ANY(%s)", [list(room_ids)])
        return dict(cursor.fetchall())


def read_after(room: LockedRoom | Any, serial: int, limit: int) -> tuple[list[Entry], int]:
    """Return a room's entries after a serial, in order, and how far they reach; at most PAGE_MAX_BYTES of data.

    One statement, so that head and entries are of one moment. The head comes with each row and, through the
    outer join, alone where nothing follows.
    """
    columns = ", ".join(f"message.{column.strip()}" for column in COLUMNS.split(","))
    page = f"SELECT {COLUMNS} FROM rooms_message WHERE room_id = room.id AND serial > %s ORDER BY serial LIMIT %s"
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT room.head, message.page_rows, {columns} FROM rooms_room AS room LEFT JOIN LATERAL "
            f"({_within_bytes(page, 'serial')}) AS message ON message.bytes_before < %s "
            "WHERE room.id = %s ORDER BY message.serial",
            [serial, limit, PAGE_MAX_BYTES, room.id],
        )
        found = cursor.fetchall()
    if not found:
        return [], serial
    entries = [entry_of(_row_of(record[2:]), room.name, room.epoch) for record in found if record[1] is not None]
    head, page_rows = found[0][:2]
    is_all = not entries or len(entries) == page_rows < limit
    return entries, max(serial, head) if is_all else entries[-1].serial


def read_end(room: LockedRoom | Any, count: int) -> tuple[list[Entry], int, int] | None:
    """Return a room's last `count` entries at most, the serial after which they come, and the room's head.

    None if there is no such room. At most PAGE_MAX_BYTES of data, the newest.
    """
    columns = ", ".join(f"message.{column.strip()}" for column in COLUMNS.split(","))
    page = (
        f"SELECT {COLUMNS} FROM rooms_message WHERE room_id = room.id AND serial IS NOT NULL "
        "ORDER BY serial DESC LIMIT %s"
    )
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT room.head, message.page_rows, {columns} FROM rooms_room AS room LEFT JOIN LATERAL "
            f"({_within_bytes(page, 'serial DESC')}) AS message ON message.bytes_before < %s "
            "WHERE room.id = %s ORDER BY message.serial",
            [count + 1, PAGE_MAX_BYTES, room.id],
        )
        found = cursor.fetchall()
    if not found:
        return None
    entries = [entry_of(_row_of(record[2:]), room.name, room.epoch) for record in found if record[1] is not None]
    head, page_rows = found[0][0], found[0][1] or 0
    if len(entries) == page_rows <= count:
        return entries, 0, head
    return entries[1:], entries[0].serial, head


def read_last(room: Any, count: int) -> int:
    """Return the serial after which the last `count` entries of a room come."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT serial FROM rooms_message WHERE room_id = %s AND serial IS NOT NULL "
            "ORDER BY serial DESC OFFSET %s LIMIT 1",
            [room.id, count],
        )
        found = cursor.fetchone()
        return found[0] if found else 0


def read_before_time(room: Any, moment: datetime, *, after: int) -> int:
    """Return the last serial that was given out before a moment, `after` if none since then was."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT created_serial FROM rooms_message WHERE room_id = %s AND created_serial IS NOT NULL "
            "AND created_serial > %s AND published_at < %s ORDER BY created_serial DESC LIMIT 1",
            [room.id, after, moment],
        )
        found = cursor.fetchone()
        return found[0] if found else after


def read_history(
    room: Any,
    *,
    start: datetime | None,
    end: datetime | None,
    after: int | None,
    before: int | None,
    forwards: bool,
    limit: int,
) -> tuple[list[Row], bool]:
    """Return published messages by their place of creation, and whether more follow.

    `after` and `before` are exclusive bounds. A page ends at `limit` messages or PAGE_MAX_BYTES of data.
    """
    conditions, values = ["room_id = %s", "created_serial IS NOT NULL"], [room.id]
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
    page = f"SELECT {COLUMNS} FROM rooms_message WHERE {' AND '.join(conditions)} ORDER BY {order} LIMIT %s"
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT page_rows, {COLUMNS} FROM ({_within_bytes(page, order)}) AS message "
            f"WHERE bytes_before < %s ORDER BY {order}",
            [*values, limit + 1, PAGE_MAX_BYTES],
        )
        found = cursor.fetchall()
    rows = [_row_of(record[1:]) for record in found[:limit]]
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


def entry_of(row: Row, room: str, epoch: str) -> Entry:
    """Return a published row as the log's entry."""
    assert row.serial is not None
    return Entry(
        room_id=row.room_id,
        room=room,
        serial=row.serial,
        pk=row.id,
        wire=wire_of(row, epoch),
        size=size_of(row.content) + ENTRY_OVERHEAD_BYTES,
    )


def wire_of(row: Row, epoch: str) -> Message:
    """Return the public shape of a row; one that is not published yet has no serial."""
    content, moment = row.content, row.published_at or row.accepted_at
    return Message(
        id=row.message_id,
        client_id=row.client_id,
        connection_id=row.connection_id,
        name=content.name,
        data=content.text if content.binary is None else content.binary,
        encoding=content.encoding,
        extras=content.extras,
        timestamp=milliseconds(moment),
        serial=None if row.created_serial is None else encode(epoch, row.created_serial),
        action=int(row.action),
        version=_version_of(row, epoch),
    )


def milliseconds(moment: datetime) -> int:
    """Return a moment as the wire shows it: milliseconds since the epoch."""
    return int(moment.timestamp() * 1000)


def _version_of(row: Row, epoch: str) -> Version | None:
    if row.serial is None or row.serial == row.created_serial:
        return None
    return Version(serial=encode(epoch, row.serial), timestamp=milliseconds(row.changed_at) if row.changed_at else None)


def _columns_of(rows: Sequence[Row], names: Sequence[str]) -> list[list[Any]]:
    return [[_value_of(row, name) for row in rows] for name in names]


def _value_of(row: Row, name: str) -> Any:
    if name in ("name", "text", "binary", "encoding"):
        return getattr(row.content, name)
    value: Any = row.content.extras if name == "extras" else getattr(row, name)
    if name in ("extras", "detail"):
        return None if value is None else json.dumps(value)
    return int(value) if name == "action" else value


def _rows(sql: str, values: Sequence[Any]) -> list[Row]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return [_row_of(record) for record in cursor.fetchall()]


def _row_of(record: Sequence[Any]) -> Row:
    (
        id_, room_id, message_id, author, client_id, connection_id, name, text, binary, encoding, extras, status,
        accepted_at, action, serial, created_serial, published_at, changed_at, awaiting, deadline, at_deadline,
        error_code, reason, detail, origin,
    ) = record  # fmt: skip
    return Row(
        id=id_, room_id=room_id, message_id=message_id, author=author, client_id=client_id,
        connection_id=connection_id,
        content=Content(
            name=name, text=text, binary=None if binary is None else bytes(binary), encoding=encoding,
            extras=_json(extras),
        ),
        status=Status(status), accepted_at=accepted_at, action=action, serial=serial,
        created_serial=created_serial, published_at=published_at, changed_at=changed_at, awaiting=awaiting,
        deadline=deadline, at_deadline=at_deadline, error_code=error_code, reason=reason, detail=_json(detail),
        origin=origin,
    )  # fmt: skip


def _json(value: Any) -> Any:
    # Django's connections hand jsonb out as text, for its own JSONField to read.
    return json.loads(value) if isinstance(value, str) else value
