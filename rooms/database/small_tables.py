"""Whether a small table has changed since it was last read: for rules that every batch needs and few people edit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from django.db import connection

_tables: list[SmallTable] = []
_read: ContextVar[Mapping[SmallTable, str] | None] = ContextVar("versions of small tables", default=None)


class SmallTable:
    """A table of rules. `name` and `condition` are our own SQL, never anybody's input. One instance a table."""

    def __init__(self, name: str, condition: str = "true") -> None:
        # xmin is the transaction that wrote a row and ctid its place: Postgres keeps this version by itself.
        self._query = (
            "SELECT coalesce(string_agg(id || ':' || xmin || ':' || ctid, ',' ORDER BY id), '') "
            f"FROM {name} WHERE {condition}"
        )
        _tables.append(self)

    def version(self) -> str:
        """Return a text that differs whenever one of the rows was added, changed or removed, by whomever.

        One query, or none inside `versions_read`.
        """
        read = _read.get()
        if read is not None and self in read:
            return read[self]
        with connection.cursor() as cursor:
            cursor.execute(self._query)
            return str(cursor.fetchone()[0])

    @property
    def query(self) -> str:
        """The SQL of its version."""
        return self._query


def tables() -> tuple[SmallTable, ...]:
    """Return all small tables, for whoever reads their versions together."""
    return tuple(_tables)


def query_of(asked: Sequence[SmallTable]) -> str:
    """Return the SQL of one row with the versions of tables; `versions_of` reads it."""
    return f"SELECT {', '.join(f'({table.query})' for table in asked)}"


def versions_of(asked: Sequence[SmallTable], found: Sequence[Sequence[str]]) -> dict[SmallTable, str]:
    """Return the versions of tables from the rows that `query_of` found. Where no app has such tables, that is none."""
    return dict(zip(asked, found[0], strict=True)) if asked else {}


@contextmanager
def versions_read(versions: Mapping[SmallTable, str]) -> Iterator[None]:
    """Let the tables' versions be what query_of() has just returned, for the rest of this transaction."""
    token = _read.set(versions)
    try:
        yield
    finally:
        _read.reset(token)
