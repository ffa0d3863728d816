"""SQL statements on the current connection, alone or many in one round trip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from django.conf import settings
from django.db import connection


def fetch(sql: str, **values: Any) -> list[Any]:
    """Execute a statement with named parameters and return its rows, none where it returns nothing."""
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchall() if cursor.description else []


Statement = tuple[str, Sequence[Any]]  # SQL and its parameters


def together(statements: Sequence[Statement]) -> list[list[tuple[Any, ...]]]:
    """Execute statements in one round trip, inside the open transaction, and return the rows of each.

    Each sees what was committed, and done by those before it, when it begins: one that waits for a lock shows
    the next what the lock's former holder did. They are prepared once a connection: give them constant texts.
    """
    connection.validate_no_broken_transaction()
    connection.ensure_connection()
    connected = connection.connection
    assert connected is not None and connection.in_atomic_block
    cursors = [psycopg.Cursor(connected) for _ in statements]
    with connection.wrap_database_errors:
        with connected.pipeline():
            for cursor, (sql, values) in zip(cursors, statements, strict=True):
                cursor.execute(sql, values, prepare=settings.DATABASE_PREPARE, binary=True)
        # Not `cursor.description`, which describes each column anew.
        return [cursor.fetchall() if cursor.pgresult and cursor.pgresult.nfields else [] for cursor in cursors]
