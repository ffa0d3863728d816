"""Executes SQL statements on the current connection, alone or many in one round trip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from django.conf import settings
from django.db import connection


def fetch(sql: str, **values: Any) -> list[Any]:
    """Execute a statement with named parameters and return its rows; none for a statement without a result."""
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchall() if cursor.description else []


Statement = tuple[str, Sequence[Any]]  # SQL and its parameters


def together(statements: Sequence[Statement]) -> list[list[tuple[Any, ...]]]:
    """Execute statements in one round trip, inside the open transaction, and return the rows of each.

    Each takes its snapshot when it begins: after a statement that waited for a lock, the next ones see the changes
    of the lock's former holder. Statements are prepared once for each connection: their texts should be constants.
    """
    connection.validate_no_broken_transaction()
    connection.ensure_connection()
    raw = connection.connection
    assert raw is not None and connection.in_atomic_block
    cursors = [psycopg.Cursor(raw) for _ in statements]
    with connection.wrap_database_errors:
        with raw.pipeline():
            for cursor, (sql, values) in zip(cursors, statements, strict=True):
                cursor.execute(sql, values, prepare=settings.DATABASE_PREPARE, binary=True)
        # Not `cursor.description`, which describes each column anew.
        return [cursor.fetchall() if cursor.pgresult and cursor.pgresult.nfields else [] for cursor in cursors]
