"""Reads the log of a room: its head, the entries after a serial, the last ones, the history by time."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

from django.db import connection

from rooms.log.entries import Entry
from rooms.log.rows import READ, Row, entry_of, names, row_of

CATCH_UP_MESSAGES = 500  # of one read for members that catch up; they read on until they have all
LOG_PAGE_BYTES = 8_388_608  # data of one page or read; its last message may exceed it

_COLUMNS = names(READ)
# published_at may decrease along a room's serials by this much: hosts' clocks differ, and transactions wait for locks.
TIME_DISORDER = timedelta(seconds=60)


class AnyRoom(Protocol):
    """The parts of a room that reading needs: the model, a RoomRef or a LockedRoom has them."""

    @property
    def id(self) -> int:
        """Primary key."""

    @property
    def name(self) -> str:
        """Name of the room."""

    @property
    def epoch(self) -> str:
        """Prefix of its serials, which tells it from a deleted room of the same name."""


def read_heads(room_ids: Collection[int]) -> dict[int, int]:
    """Return the heads of rooms, by primary key, with one query."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT id, head FROM rooms_room WHERE id = ANY(%s)", [list(room_ids)])
        return dict(cursor.fetchall())


def read_after(room: AnyRoom, serial: int, limit: int) -> tuple[list[Entry], int]:
    """Return a room's entries after a serial, in order, and the serial up to which they are complete.

    At most `limit` entries and LOG_PAGE_BYTES of data."""
    page = f"SELECT {_COLUMNS} FROM rooms_message WHERE room_id = room.id AND serial > %s ORDER BY serial LIMIT %s"
    read = _read_page(room, page, [serial, limit], order="serial")
    if read is None:
        return [], serial
    entries, page_rows, head = read
    is_all = not entries or len(entries) == page_rows < limit
    return entries, max(serial, head) if is_all else entries[-1].serial


def read_end(room: AnyRoom, count: int) -> tuple[list[Entry], int, int] | None:
    """Return a room's last entries, the serial after which they come, and the room's head; None if there is no room.

    At most `count` entries and LOG_PAGE_BYTES of data, the newest.
    """
    page = (
        f"SELECT {_COLUMNS} FROM rooms_message WHERE room_id = room.id AND serial IS NOT NULL "
        "ORDER BY serial DESC LIMIT %s"
    )
    read = _read_page(room, page, [count + 1], order="serial DESC")
    if read is None:
        return None
    entries, page_rows, head = read
    if len(entries) == page_rows <= count:
        return entries, 0, head
    return entries[1:], entries[0].serial, head


def _read_page(room: AnyRoom, page: str, values: Sequence[Any], *, order: str) -> tuple[list[Entry], int, int] | None:
    """Return the first entries of a page within LOG_PAGE_BYTES, its number of rows without that limit, and the head.

    None if there is no such room. Entries are in order of serials. One statement, so that head and entries are of one
    moment: the outer join returns the head also where there are no entries.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT room.head, message.page_rows, {names(READ, 'message')} FROM rooms_room AS room LEFT JOIN LATERAL "
            f"({_within_bytes(page, order)}) AS message ON message.bytes_before < %s "
            "WHERE room.id = %s ORDER BY message.serial",
            [*values, LOG_PAGE_BYTES, room.id],
        )
        records = cursor.fetchall()
    if not records:
        return None
    entries = [entry_of(row_of(record[2:]), room.name, room.epoch) for record in records if record[1] is not None]
    head, page_rows = records[0][:2]
    return entries, page_rows or 0, head


def read_last(room: AnyRoom, count: int) -> int:
    """Return the serial after which the last `count` entries of a room come."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT serial FROM rooms_message WHERE room_id = %s AND serial IS NOT NULL "
            "ORDER BY serial DESC OFFSET %s LIMIT 1",
            [room.id, count],
        )
        record = cursor.fetchone()
        return record[0] if record else 0


def read_before_time(room: AnyRoom, moment: datetime, *, after: int) -> int:
    """Return the last serial of a message published before a moment; `after` if that is greater."""
    earliest = max(after, _serial_before(room, moment - TIME_DISORDER))
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT created_serial FROM rooms_message WHERE room_id = %s AND created_serial > %s "
            "AND created_serial <= %s AND published_at < %s ORDER BY created_serial DESC LIMIT 1",
            [room.id, earliest, _serial_before(room, moment + TIME_DISORDER), moment],
        )
        record = cursor.fetchone()
        return record[0] if record else earliest


def _serial_before(room: AnyRoom, moment: datetime) -> int:
    """Return the last serial of creation that was published before a moment, as if times grew with serials.

    A binary search: some twenty probes of an index, however long the room is. Times grow with serials only within
    TIME_DISORDER; callers widen their moments by it.
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
        record = cursor.fetchone()
        return (record[0] if record else None) or 0


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
    """Return a page of published messages by their serials of creation, and whether more follow.

    `after` and `before` are exclusive bounds. A page ends at `limit` messages or LOG_PAGE_BYTES of data.
    """
    # No index has the times: serials around them bound the range of messages that is searched.
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
            [*values, limit + 1, LOG_PAGE_BYTES],
        )
        records = cursor.fetchall()
    rows = [row_of(record[1:]) for record in records[:limit]]
    return rows, bool(records) and records[0][0] > len(rows)


def _within_bytes(page: str, order: str) -> str:
    """Return a query that adds to each row of a page the bytes of data before it, and the number of rows.

    octet_length reads the size of large values without reading them.
    """
    size = 'coalesce(octet_length("text"), 0) + coalesce(octet_length("binary"), 0)'
    return (
        f"SELECT page.*, count(*) OVER () AS page_rows, "
        f"coalesce(sum({size}) OVER (ORDER BY {order} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) "
        f"AS bytes_before FROM ({page}) AS page"
    )
