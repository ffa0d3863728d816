"""The filters beside admin lists: by conditions, by a text, by a room."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from rooms.models import Room


def condition_filter(name: str, **conditions: tuple[str, Q]) -> type[admin.SimpleListFilter]:
    """Return a filter with a choice for each condition: its label, and the rows that it shows.

    Each condition needs an index, or must hold for most rows.
    """

    class ConditionFilter(admin.SimpleListFilter):
        title = parameter_name = name

        def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
            return [(value, label) for value, (label, _condition) in conditions.items()]

        def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
            chosen = conditions.get(self.value() or "")
            return queryset.filter(chosen[1]) if chosen else queryset

    return ConditionFilter


class TextFilter(admin.SimpleListFilter):
    """A filter with a text field. Subclasses look up its value."""

    template = "admin/text_filter.html"
    placeholder = ""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return one choice, so that the filter is shown."""
        return [("", "")]

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        """Yield the form: its value, and the other parameters of the address, which it must keep."""
        kept = [
            (name, value)
            for name, values in changelist.filter_params.items()
            for value in (values if isinstance(values, list) else [values])
            if name != self.parameter_name
        ]
        yield {
            "name": self.parameter_name,
            "value": self.value() or "",
            "placeholder": self.placeholder,
            "kept": kept,
            "clear": changelist.get_query_string(remove=[str(self.parameter_name)]),
        }


class RoomFilter(TextFilter):
    """Filters rows by their room."""

    title = "room"
    parameter_name = "room"
    placeholder = "exact name"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the rows of the room with the chosen name; none if there is no such room."""
        name = self.value()
        if not name:
            return queryset
        # The room is looked up first, so that the planner knows how busy it is.
        room = Room.objects.filter(name=name).values_list("pk", flat=True).first()
        return queryset.none() if room is None else queryset.filter(room_id=room)
