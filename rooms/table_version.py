"""Whether a small table has changed since it was last read: for rules that every batch needs and few people edit."""

from __future__ import annotations

from django.db import connection


def read_version(table: str, condition: str = "true") -> str:
    """Return a text that differs whenever one of the rows was added, changed or removed, by whomever.

    One query. `table` and `condition` are our own SQL, never anybody's input. xmin is the transaction that wrote
    a row and ctid its place: Postgres keeps this version by itself.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(string_agg(id || ':' || xmin || ':' || ctid, ',' ORDER BY id), '') "
            f"FROM {table} WHERE {condition}"
        )
        return str(cursor.fetchone()[0])
