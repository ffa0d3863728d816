"""The tables of verdicts and versions on a message's page."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.forms import BaseInlineFormSet
from django.http import HttpRequest

from rooms.admin.cells import column
from rooms.admin.contents import preview_of, with_previews
from rooms.models import MessageVersion, Verdict

MAX_INLINE_ROWS = 50


class LatestFormSet(BaseInlineFormSet[Any, Any, Any]):
    """Limits a table to the latest rows: a message can have more versions than a page can show."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        assert self.queryset is not None
        self.queryset = self.queryset.order_by("-pk")[:MAX_INLINE_ROWS]


class ReadOnlyInline(admin.TabularInline[Any, Any]):
    """A table that cannot be changed."""

    extra = 0
    formset = LatestFormSet
    can_delete = False
    classes: Any = ("collapse",)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody adds rows by hand."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody deletes rows."""
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whoever may see the message may see its history."""
        return True


class VersionInline(ReadOnlyInline):
    """The former contents of the message."""

    model = MessageVersion
    fields = ("serial", "action", "preview", "replaced_at", "replaced_by")
    readonly_fields = ("preview",)
    preview = column("said", preview_of)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the versions with the start of their text."""
        return with_previews(super().get_queryset(request))


class VerdictInline(ReadOnlyInline):
    """The verdicts on the message."""

    model = Verdict
    fields = ("decided_at", "step", "action", "reason")
