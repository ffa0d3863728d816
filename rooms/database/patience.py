"""Limits how long serving processes wait for Postgres: its own timeouts, and one of ours for a server that hangs.

Commands that may take long (migrate, prepare, a shell) run without these limits.
"""

from __future__ import annotations

from typing import Any

import psycopg
from django.conf import settings
from django.db import connection, connections
from psycopg.abc import RV, PQGen

GRACE_SECONDS = 5.0  # a Postgres that is alive cancels the statement by itself within this time


class PatientConnection(psycopg.Connection[Any]):
    """A connection that is closed when its server has not answered for longer than a statement may take.

    A Postgres that is stopped, or whose disk hangs, cancels no statement, and keepalives do not notice it either:
    the kernel goes on acknowledging for it.
    """

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Wait as psycopg does, but not for ever. Raises psycopg.OperationalError and closes the connection."""
        try:
            longest = settings.DATABASE_STATEMENT_SECONDS + GRACE_SECONDS
            return super().wait(gen, interval, longest if timeout is None else timeout)
        except psycopg.errors._WaitTimeout:
            if timeout is None:
                # The next statement would read this one's answer, should it still arrive.
                self.pgconn.finish()
            raise


def limit_statements() -> None:
    """Limit the time of statements and of idle transactions in this process. Call it before the database is used.

    Changes nothing where DATABASE_URL sets statement_timeout itself, or DATABASE_STATEMENT_SECONDS is 0.
    """
    options = connections.databases["default"].get("OPTIONS", {})
    own, seconds = str(options.get("options", "")), settings.DATABASE_STATEMENT_SECONDS
    if not seconds or "statement_timeout" in own or "pool" not in options:
        return
    limit = f"{seconds * 1000:.0f}"
    # Ours come first: Postgres takes the last of two values.
    options["options"] = f"-c statement_timeout={limit} -c idle_in_transaction_session_timeout={limit} {own}".rstrip()
    options["pool"]["connection_class"] = PatientConnection


def limit_lock_waits(seconds: float) -> None:
    """Wait at most so long for each lock in the open transaction; `is_lock_timeout` recognises the error after that."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", [lock_timeout_of(seconds)])


def lock_timeout_of(seconds: float) -> str:
    """Return seconds as a value of Postgres' lock_timeout, at least 1 ms: 0 would mean no limit."""
    return f"{max(1, round(seconds * 1000))}ms"


def is_lock_timeout(error: Exception) -> bool:
    """Return whether an error says that a lock was not free in time; Postgres itself is up then."""
    return isinstance(error.__cause__, psycopg.errors.LockNotAvailable)
