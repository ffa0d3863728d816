"""Queries on tables of millions of rows that read a bounded number of them: bounded counts, ranges of time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, models

COUNT_LIMIT = 10_000
# A row's id and its stored time are taken at different moments, by at most this much.
SKEW = timedelta(minutes=1)

# Bisects the primary key: each step reads one row, the first at or above the middle of the range.
FIRST_ID = """
WITH RECURSIVE search (low, high) AS (
    SELECT (SELECT id FROM {table} ORDER BY id LIMIT 1), (SELECT id FROM {table} ORDER BY id DESC LIMIT 1) + 1
    UNION ALL
    SELECT CASE WHEN probe.moment < %(moment)s THEN probe.id + 1 ELSE low END,
           CASE WHEN probe.moment < %(moment)s THEN high ELSE (low + high) / 2 END
    FROM search, LATERAL (
        SELECT id, {field} AS moment FROM {table} WHERE id >= (low + high) / 2 ORDER BY id LIMIT 1
    ) AS probe
    WHERE low < high
)
SELECT low FROM search WHERE low >= high
"""


@dataclass(frozen=True, kw_only=True)
class Count:
    """A number of rows: exact, or a lower bound where counting stopped at its limit."""

    number: int
    is_exact: bool

    def __str__(self) -> str:
        return f"{self.number:,}" if self.is_exact else f"{self.number:,}+"


def count_up_to(rows: models.QuerySet[Any], limit: int = COUNT_LIMIT) -> Count:
    """Count rows in the order in which they would be shown, and stop at the limit."""
    # The order stays: without it the planner may prefer to read the table from its start.
    number = rows.values_list("pk", flat=True)[: limit + 1].count()
    return Count(number=min(number, limit), is_exact=number <= limit)


def estimate(model: type[models.Model]) -> int:
    """Return about how many rows a table has, from its last VACUUM or ANALYZE."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT reltuples::bigint FROM pg_class WHERE oid = %s::regclass", [model._meta.db_table])
        return max(0, int(cursor.fetchone()[0]))


def first_id_at(model: type[models.Model], field: str, moment: datetime) -> int | None:
    """Return the lowest id of the rows of `moment` or later, give or take SKEW; None for an empty table.

    `field` must grow with the primary key, as times of creation do; it needs no index.
    """
    quote = connection.ops.quote_name
    sql = FIRST_ID.format(table=quote(model._meta.db_table), field=quote(field))
    with connection.cursor() as cursor:
        cursor.execute(sql, {"moment": moment})
        record = cursor.fetchone()
        return None if record is None else int(record[0])


def between(
    rows: models.QuerySet[Any], field: str, start: datetime | None, end: datetime | None
) -> models.QuerySet[Any]:
    """Return the rows with `start` <= `field` < `end`, found by a range of primary keys. None: no bound."""
    bounds: tuple[tuple[str, datetime | None, Callable[[datetime], datetime]], ...] = (
        ("gte", start, lambda moment: moment - SKEW),
        ("lt", end, lambda moment: moment + SKEW),
    )
    for lookup, moment, widened in bounds:
        if moment is None:
            continue
        first = first_id_at(rows.model, field, widened(moment))
        if first is None:
            return rows.none()
        rows = rows.filter(**{f"pk__{lookup}": first, f"{field}__{lookup}": moment})
    return rows
