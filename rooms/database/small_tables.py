"""Notices changes of small tables: of rules, which every batch needs and few people edit, so copies can be kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from django.db import connection

_tables: list[SmallTable] = []
_read: ContextVar[Mapping[SmallTable, str] | None] = ContextVar("versions of small tables", default=None)


class SmallTable:
    """A table of rules. `name` and `condition` are SQL of our own, never input. One instance for each table."""

    def __init__(self, name: str, condition: str = "true") -> None:
        # xmin is the transaction that wrote a row and ctid its place: Postgres keeps this version by itself.
        self._query = (
            "SELECT coalesce(string_agg(id || ':' || xmin || ':' || ctid, ',' ORDER BY id), '') "
            f"FROM {name} WHERE {condition}"
        )
        _tables.append(self)

    def version(self) -> str:
        """Return a text that changes whenever any process adds, changes or removes a row.

        Costs one query, or none inside `versions_read`.
        """
        read = _read.get()
        if read is not None and self in read:
            return read[self]
        with connection.cursor() as cursor:
            cursor.execute(self._query)
            return str(cursor.fetchone()[0])

    @property
    def query(self) -> str:
        """The SQL that selects the version."""
        return self._query


def tables() -> tuple[SmallTable, ...]:
    """Return all small tables, so that one query can read the versions of all."""
    return tuple(_tables)


def query_of(tables: Sequence[SmallTable]) -> str:
    """Return the SQL that selects the versions of tables as one row; `versions_of` reads the result."""
    return f"SELECT {', '.join(f'({table.query})' for table in tables)}"


def versions_of(tables: Sequence[SmallTable], records: Sequence[Sequence[str]]) -> dict[SmallTable, str]:
    """Return the versions of tables from the result of `query_of`; empty if there are no tables."""
    return dict(zip(tables, records[0], strict=True)) if tables else {}


@contextmanager
def versions_read(versions: Mapping[SmallTable, str]) -> Iterator[None]:
    """Have `SmallTable.version` return these versions, just read, in place of a query each; for one transaction."""
    token = _read.set(versions)
    try:
        yield
    finally:
        _read.reset(token)
