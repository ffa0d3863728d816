"""How long processes that serve people wait for Postgres: its own limits, and ours for a server that does not answer.

Commands that may take long (migrate, prepare, a shell) have no such limits.
"""

from __future__ import annotations

from typing import Any

import psycopg
from django.conf import settings
from django.db import connection, connections
from psycopg.abc import RV, PQGen

GRACE_SECONDS = 5.0  # in which Postgres, if it lives, cancels the statement by itself


class PatientConnection(psycopg.Connection[Any]):
    """A connection that is closed when its server has said nothing for longer than a statement may take.

    Postgres cancels a statement only while it runs. One that is stopped, or whose disk hangs, does not: the kernel
    goes on acknowledging for it, so that keepalives find nothing either.
    """

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """See psycopg. Raises psycopg.OperationalError."""
        try:
            longest = settings.DATABASE_STATEMENT_SECONDS + GRACE_SECONDS
            return super().wait(gen, interval, longest if timeout is None else timeout)
        except psycopg.errors._WaitTimeout:
            if timeout is None:
                # An answer that still comes would be taken for the next statement's.
                self.pgconn.finish()
            raise


def limit_statements() -> None:
    """Limit statements, and transactions that do nothing, in this process. To be called before it uses the database.

    Where DATABASE_URL limits statements itself, or the setting is 0, everything is left as it is.
    """
    options = connections.databases["default"].get("OPTIONS", {})
    own, seconds = str(options.get("options", "")), settings.DATABASE_STATEMENT_SECONDS
    if not seconds or "statement_timeout" in own or "pool" not in options:
        return
    limit = f"{seconds * 1000:.0f}"
    # Ours come first: of two the last counts.
    options["options"] = f"-c statement_timeout={limit} -c idle_in_transaction_session_timeout={limit} {own}".rstrip()
    options["pool"]["connection_class"] = PatientConnection


def limit_lock_waits(seconds: float) -> None:
    """Let each lock of the open transaction be waited for so long at most; `is_lock_timeout` knows the error then."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", [lock_timeout_of(seconds)])


def lock_timeout_of(seconds: float) -> str:
    """Return seconds as Postgres' setting lock_timeout reads them; there 0 means no limit."""
    return f"{max(1, round(seconds * 1000))}ms"


def is_lock_timeout(error: Exception) -> bool:
    """Tell whether a lock was waited for in vain: Postgres is there, but somebody else holds what was asked for."""
    return isinstance(error.__cause__, psycopg.errors.LockNotAvailable)
