"""Filters rows by time, as Django's date hierarchy does, but without reading the whole table."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from rooms.admin.filters import TextFilter
from rooms.database import large_tables


class MomentFilter(TextFilter):
    """Filters rows by an hour, day, month or year of a field that grows with the primary key. Times are UTC."""

    title = "time"
    parameter_name = "at"
    template = "admin/moment_filter.html"
    placeholder = "2026-11-23"
    field: ClassVar[str]

    RECENT: ClassVar[dict[str, tuple[str, timedelta]]] = {
        "hour": ("Last hour", timedelta(hours=1)),
        "day": ("Last 24 hours", timedelta(days=1)),
        "week": ("Last 7 days", timedelta(days=7)),
        "month": ("Last 30 days", timedelta(days=30)),
    }

    @classmethod
    def of(cls, field: str) -> type[MomentFilter]:
        """Return the filter for a field."""
        return type(f"MomentFilterOf{field}", (cls,), {"field": field})

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the recent spans; years, months and days are added where they are shown."""
        return [(value, label) for value, (label, _) in self.RECENT.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the rows of the chosen time; all rows for a value that is not a time."""
        span = self.span()
        return queryset if span is None else large_tables.between(queryset, self.field, *span)

    def span(self) -> tuple[datetime, datetime | None] | None:
        """Return begin and end of the chosen time; None for any time."""
        value = self.value() or ""
        if value in self.RECENT:
            return timezone.now() - self.RECENT[value][1], None
        return _span_of(value)

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        """Yield the recent spans, and a field for a day, which also takes a month or a year."""
        chosen = self.value() or ""
        day = chosen if _span_of(chosen) is not None else ""
        recent = {"": "Any time", **dict(self.lookup_choices)}
        for value in (*recent, *_neighbours(day)):
            yield {
                "display": recent.get(value, value),
                "selected": value == chosen,
                "query_string": changelist.get_query_string({str(self.parameter_name): value or None}),
                "is_dated": value not in recent,
            }
        form = next(super().choices(changelist))
        yield {**form, "value": day, "is_form": True}


def _span_of(value: str) -> tuple[datetime, datetime] | None:
    """Return begin and end of `2026`, `2026-11` or `2026-11-23`."""
    parts = value.split("-")
    if not 1 <= len(parts) <= 3 or not all(part.isascii() and part.isdigit() for part in parts) or len(parts[0]) != 4:
        return None
    year, month, day = [*map(int, parts), 1, 1][:3]
    try:
        start = datetime(year, month, day, tzinfo=UTC)
        if len(parts) == 3:
            return start, start + timedelta(days=1)
        if len(parts) == 2:
            return start, (start + timedelta(days=32)).replace(day=1)
        return start, start.replace(year=year + 1)
    except (ValueError, OverflowError):
        return None


def _neighbours(value: str) -> list[str]:
    """Return the dates to offer beside one: its year and month, the date before it, itself, and the date after it."""
    span = _span_of(value)
    if span is None:
        return []
    start, end = span
    parts = value.split("-")
    above = ["-".join(parts[:length]) for length in range(1, len(parts))]
    pattern = ("%Y", "%Y-%m", "%Y-%m-%d")[len(parts) - 1]
    beside = [(start - timedelta(days=1)).strftime(pattern), start.strftime(pattern), end.strftime(pattern)]
    return [*above, *beside]
