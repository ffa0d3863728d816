"""Rows of messages and rooms in memory: read from records, turned into parameters, entries and drafts. No I/O."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any

import msgspec

from rooms.log.content import Authored, Content, Draft, size_of
from rooms.log.entries import Entry
from rooms.models import MessageAction, Status
from rooms.protocol.serials import encode
from rooms.protocol.wire import Message, Version

ENTRY_OVERHEAD_BYTES = 400  # ids, serials and the structs themselves, measured


class LockedRoom(msgspec.Struct, kw_only=True):
    """A room under its row lock; `head` grows as serials are given out."""

    id: int
    name: str
    epoch: str
    head: int

    def next_serial(self) -> int:
        """Advance the head by one and return it."""
        self.head += 1
        return self.head


class Row(Authored, kw_only=True):
    """One row of rooms_message. Only rooms.log.lifecycle changes its state."""

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


# --- Columns ----------------------------------------------------------------------------------------------

# The columns of an INSERT, in this order, with their Postgres types.
TYPES = {
    "room_id": "bigint", "message_id": "text", "author": "text", "client_id": "text", "connection_id": "text",
    "name": "text", "text": "text", "binary": "bytea", "encoding": "text", "extras": "jsonb", "status": "text",
    "accepted_at": "timestamptz", "action": "smallint", "serial": "bigint", "created_serial": "bigint",
    "published_at": "timestamptz", "changed_at": "timestamptz", "awaiting": "text", "deadline": "timestamptz",
    "at_deadline": "text", "error_code": "int", "reason": "text", "detail": "jsonb", "origin": "text",
}  # fmt: skip
READ = ("id", *TYPES)
_OF_CONTENT = ("name", "text", "binary", "encoding", "extras")


def names(columns: Sequence[str], table: str = "") -> str:
    """Return columns as SQL lists them, each with its table where one is given."""
    return ", ".join(f'{table}."{column}"' if table else f'"{column}"' for column in columns)


def columns_of(rows: Sequence[Row], columns: Sequence[str]) -> list[list[Any]]:
    """Return the values of rows, column by column, as parameters."""
    return [_READERS[column](rows) for column in columns]


def row_of(record: Sequence[Any]) -> Row:
    """Return the row of a record with the columns READ."""
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


def _reader(column: str) -> Callable[[Sequence[Row]], list[Any]]:
    get = attrgetter(f"content.{column}" if column in _OF_CONTENT else column)
    if TYPES[column] == "jsonb":
        return lambda rows: [None if (value := get(row)) is None else json.dumps(value) for row in rows]
    if column == "action":  # an enumeration has no binary form of its own
        return lambda rows: [int(get(row)) for row in rows]
    if column == "status":
        return lambda rows: [get(row).value for row in rows]
    return lambda rows: list(map(get, rows))


_READERS = {column: _reader(column) for column in TYPES}


def _json(value: Any) -> Any:
    # Django's connections return jsonb as text, which its JSONField parses.
    return json.loads(value) if isinstance(value, str) else value


# --- Shapes -----------------------------------------------------------------------------------------------


def entry_of(row: Row, room: str, epoch: str) -> Entry:
    """Return the log entry of a published row."""
    assert row.serial is not None
    return Entry(
        room_id=row.room_id,
        room=room,
        serial=row.serial,
        pk=row.id,
        wire=wire_of(row, epoch),
        size=size_of(row.content) + ENTRY_OVERHEAD_BYTES,
    )


def entries_of(rows: Sequence[Row], rooms: Mapping[int, LockedRoom]) -> list[Entry]:
    """Return the log entries of published rows, in the same order."""
    return [entry_of(row, (room := rooms[row.room_id]).name, room.epoch) for row in rows]


def draft_of(row: Row, room: str, *, passed: str = "") -> Draft:
    """Return the draft of a row, for its review."""
    return Draft(
        room_id=row.room_id,
        room=room,
        message_id=row.message_id,
        author=row.author,
        client_id=row.client_id,
        connection_id=row.connection_id,
        content=row.content,
        origin=row.origin,
        accepted_ms=milliseconds(row.accepted_at),
        passed=passed,
    )


def wire_of(row: Row, epoch: str) -> Message:
    """Return a row as the wire shows it; without a serial before it is published."""
    content, moment = row.content, row.published_at or row.accepted_at
    return Message(
        id=row.message_id,
        client_id=row.client_id,
        connection_id=row.connection_id,
        name=content.name,
        data=content.data,
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
