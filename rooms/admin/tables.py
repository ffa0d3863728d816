"""The common parts of admin pages of large tables: no unbounded COUNT, no scan, no generic editing."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponse
from django.utils.functional import cached_property
from django.utils.text import capfirst

from rooms.admin import message_search
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
    """A model admin that lists rows and runs actions on them. Forms do only what a subclass allows in `by_form`."""

    paginator = BoundedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    sortable_by = ()
    list_per_page = 50
    list_max_show_all = 50
    allowed_lookups: ClassVar[Sequence[str]] = ()  # in the address, beside the filter classes of list_filter
    by_form: ClassVar[Collection[str]] = ()  # what users with the permission may do: "add", "change", "delete"
    add_fields: ClassVar[Sequence[str]] = ()  # instead of `fields`, for a row that does not exist yet
    fixed_fields: ClassVar[Sequence[str]] = ()  # read-only once the row exists

    # --- Listing ---

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Return the change list that cannot be sorted by columns without an index."""
        return FixedOrder

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        """Refuse filters that are not on the page: `?text__icontains=` would read the whole table."""
        own = {getattr(item, "parameter_name", None) for item in self.get_list_filter(request)}
        return lookup in own or lookup in self.allowed_lookups

    # --- Permissions ---

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the user may add rows by form."""
        return "add" in self.by_form and super().has_add_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the user may edit rows by form."""
        return "change" in self.by_form and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the user may delete rows by form."""
        return "delete" in self.by_form and super().has_delete_permission(request, obj)

    def has_act_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may run actions: with the right to change rows, also where no form edits them."""
        return super().has_change_permission(request)

    # --- One row ---

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Return the fields of the form of a new row, or all fields of an existing one."""
        return self.add_fields if obj is None and self.add_fields else super().get_fields(request, obj)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Return the read-only fields; those that nobody may edit by form are so anyway."""
        return self.readonly_fields if obj is None else (*self.readonly_fields, *self.fixed_fields)

    def page_context(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """Return what the template of a row's page shows beside its fields."""
        return {}

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        """Show the page of a row that the user may see, or the form of a new one."""
        row = kwargs.get("obj")
        shown = context if row is None else {**context, **self.page_context(request, row)}
        return super().render_change_form(request, shown, *args, **kwargs)


class MessageRowsAdmin(LargeTableAdmin):
    """A model admin of messages, or of rows that belong to them; its search finds those that a term names."""

    search_help_text = "A message id, serial or primary key of a message."
    message_field = "message_id"

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Return the rows that a search finds."""
        term = search_term.strip()
        return (self.find(request, queryset, term) if term else queryset), False

    def find(self, request: HttpRequest, rows: QuerySet[Any], term: str) -> QuerySet[Any]:
        """Return the rows of the messages that a term names."""
        return rows.filter(**{f"{self.message_field}__in": message_search.find_or_warn(request, term)})


# --- Acting -----------------------------------------------------------------------------------------------


def first(request: HttpRequest, rows: QuerySet[Any]) -> list[int]:
    """Return the primary keys of an action's rows, at most ACTION_LIMIT. Warn the user if there are more."""
    keys = list(rows.values_list("pk", flat=True)[: ACTION_LIMIT + 1])
    if len(keys) > ACTION_LIMIT:
        messages.warning(request, f"Only the first {ACTION_LIMIT:,} were changed. Do it again for the next ones.")
    return keys[:ACTION_LIMIT]


def actor(request: HttpRequest) -> str:
    """Return the name under which a user's actions are recorded."""
    return str(request.user.get_username())


def log(request: HttpRequest, rows: QuerySet[Any], what: str) -> None:
    """Record an action on rows in the admin's log."""
    assert request.user.pk is not None
    LogEntry.objects.log_actions(request.user.pk, rows, CHANGE, what)
