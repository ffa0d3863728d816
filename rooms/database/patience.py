"""How long processes that serve people wait for Postgres: its own limits, and ours for a server that does not answer.

Commands that may take long (migrate, prepare, a shell) have no such limits.
"""

from __future__ import annotations

from typing import Any

import psycopg
from django.conf import settings
from django.db import connections
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
