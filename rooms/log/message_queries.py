"""Finds, inserts and updates rows of messages by their primary keys. Callers hold the locks of the rooms to write."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from django.db import connection

from rooms.database.patience import lock_timeout_of
from rooms.database.spread import spread
from rooms.database.statements import Statement, together
from rooms.log.rows import READ, TYPES, Row, columns_of, names, row_of

# Prepared plans outlive the growth of tables: one made for a small table could scan a large one.
BY_INDEX = (
    "SELECT set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true), "
    "set_config('enable_mergejoin', 'off', true), set_config('plan_cache_mode', 'force_generic_plan', true)"
)
_IN_TIME = f"{BY_INDEX}, set_config('lock_timeout', %b, true)"
READ_ROWS = f"SELECT {names(READ)} FROM rooms_message WHERE id = ANY(%b::bigint[])"
_COLUMNS = names(READ)
CHANGING = [name for name in TYPES if name not in ("room_id", "message_id", "author", "accepted_at", "origin")]


def by_index(lock_seconds: float | None) -> Statement:
    """Return the first statement of a transaction by indexes alone; each of its waits for a lock may be limited."""
    return (BY_INDEX, ()) if lock_seconds is None else (_IN_TIME, [lock_timeout_of(lock_seconds)])


def update(rows: Sequence[Row]) -> None:
    """Store the changeable columns of rows. Writes."""
    if rows:
        together([updating(rows, CHANGING)])


def updating(rows: Sequence[Row], columns: Sequence[str]) -> Statement:
    """Return the statement that stores some columns of rows."""
    values = dict(zip(columns, columns_of(rows, columns), strict=True))
    new = spread({**values, "id": [row.id for row in rows]}, TYPES | {"id": "bigint"}, many=["id"])
    assignments = ", ".join(f'"{name}" = {new.selected[name]}' for name in columns)
    return f"UPDATE rooms_message AS message SET {assignments} FROM {new.source} WHERE message.id = new.id", new.values


def find(ids: Collection[int]) -> dict[int, Row]:
    """Return the rows with these primary keys, by primary key; missing ones are left out."""
    rows = _rows(f"SELECT {_COLUMNS} FROM rooms_message WHERE id = ANY(%s)", [list(ids)])
    return {row.id: row for row in rows}


def find_decided(ids: Collection[int]) -> list[int]:
    """Return those of the messages (primary keys) that are published, rejected or held."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id FROM rooms_message WHERE id = ANY(%s) AND status NOT IN ('accepted', 'approved')", [list(ids)]
        )
        return [id_ for (id_,) in cursor.fetchall()]


def _rows(sql: str, values: Sequence[Any]) -> list[Row]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return [row_of(record) for record in cursor.fetchall()]
