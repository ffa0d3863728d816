"""The common parts of admin pages of large tables: no unbounded COUNT, no scan, no generic editing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponse
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst

from rooms.database import large_tables

ACTION_LIMIT = 1000  # rows that one action changes, in one transaction


class BoundedPaginator(Paginator[Any]):
    """Pages through the first COUNT_LIMIT rows; search, filters and dates find the rows beyond."""

    @cached_property
    def count(self) -> int:
        """The number of rows that can be paged through."""
        return self.bounded.number

    @cached_property
    def bounded(self) -> large_tables.Count:
        """The number of rows, counted up to COUNT_LIMIT."""
        assert isinstance(self.object_list, QuerySet)
        return large_tables.count_up_to(self.object_list)

    @cached_property
    def estimate(self) -> int:
        """An estimate of the rows of the whole table."""
        assert isinstance(self.object_list, QuerySet)
        return large_tables.estimate(self.object_list.model)


class FixedOrder(ChangeList):
    """A change list in the order of its model admin; the address cannot choose another."""

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        """Return the order that an index serves."""
        return [*(self.model_admin.get_ordering(request) or self.opts.ordering or ())]


class PlainTitleAdmin(admin.ModelAdmin[Any]):
    """A model admin whose pages are titled by what they list."""

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the list, titled by the plural name of its model."""
        title = capfirst(str(self.opts.verbose_name_plural))
        return super().changelist_view(request, {"title": title, **(extra_context or {})})

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the form with one button to save: secrets shown once after saving rule out "save and continue"."""
        buttons = {"show_save_and_add_another": False, "show_save_and_continue": False}
        return super().add_view(request, form_url, {**buttons, **(extra_context or {})})


class LargeTableAdmin(PlainTitleAdmin):
    """A model admin that lists rows and runs actions on them, but never adds, edits or deletes by form."""

    paginator = BoundedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    sortable_by = ()
    list_per_page = 50
    list_max_show_all = 50
    allowed_lookups: ClassVar[Sequence[str]] = ()  # in the address, beside the filter classes of list_filter

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Return the change list that cannot be sorted by columns without an index."""
        return FixedOrder

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        """Refuse filters that are not on the page: `?text__icontains=` would read the whole table."""
        own = {getattr(item, "parameter_name", None) for item in self.get_list_filter(request)}
        return lookup in own or lookup in self.allowed_lookups

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody adds rows by hand."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody edits rows by hand."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody deletes rows by hand."""
        return False


# --- Filters ----------------------------------------------------------------------------------------------


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


# --- Cells ------------------------------------------------------------------------------------------------


def badge(label: str, tone: str) -> SafeString:
    """Return a word in a coloured pill."""
    return format_html('<span class="badge {}">{}</span>', tone, label)


def quiet(text: str) -> SafeString:
    """Return the dash of an empty cell."""
    return format_html('<span class="quiet">{}</span>', text)


def said(text: str, note: str = "") -> SafeString:
    """Return foreign text, escaped and isolated: its bidi characters cannot turn the text around it."""
    return format_html('<bdi class="said" dir="auto">{}</bdi>{}', text, format_html(" <small>{}</small>", note))


def moment(at: datetime | None) -> SafeString:
    """Return a time of the current year without the year, in UTC, with the second."""
    if at is None:
        return quiet("-")
    at = at.astimezone(UTC)
    day = f"{at.day} {at:%b}" if at.year == datetime.now(UTC).year else f"{at.day} {at:%b %Y}"
    return format_html('<time datetime="{}">{}, {}</time>', at.isoformat(), day, f"{at:%H:%M:%S}")


def moment_of(field: str, label: str) -> Callable[[Any], SafeString]:
    """Return a column that shows a time."""

    @admin.display(description=label)
    def column(row: Any) -> SafeString:
        return moment(getattr(row, field))

    return column


def size(count: int) -> str:
    """Return a number of bytes in a readable unit."""
    if count < 1000:
        return f"{count} B"
    return f"{count / 1000:.1f} KB" if count < 1_000_000 else f"{count / 1_000_000:.1f} MB"


def first(request: HttpRequest, rows: QuerySet[Any]) -> list[int]:
    """Return the primary keys of an action's rows, at most ACTION_LIMIT. Warn the user if there are more."""
    keys = list(rows.values_list("pk", flat=True)[: ACTION_LIMIT + 1])
    if len(keys) > ACTION_LIMIT:
        messages.warning(request, f"Only the first {ACTION_LIMIT:,} were changed. Do it again for the next ones.")
    return keys[:ACTION_LIMIT]


# --- Acting -----------------------------------------------------------------------------------------------


def actor(request: HttpRequest) -> str:
    """Return the name under which a user's actions are recorded."""
    return str(request.user.get_username())


def log(request: HttpRequest, rows: QuerySet[Any], what: str) -> None:
    """Record an action on rows in the admin's log."""
    assert request.user.pk is not None
    LogEntry.objects.log_actions(request.user.pk, rows, CHANGE, what)


def plural(number: int, noun: str) -> str:
    """Return `1 message`, `2 messages`, `2 deliveries`."""
    if number == 1:
        return f"1 {noun}"
    many = f"{noun[:-1]}ies" if noun.endswith("y") and noun[-2] not in "aeiou" else f"{noun}s"
    return f"{number:,} {many}"
