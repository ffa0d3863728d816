"""The admin pages of verdicts and of former versions, across all messages."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from rooms.admin import message_search
from rooms.admin.contents import preview_of, with_previews
from rooms.admin.journey import WORDS, Tone
from rooms.admin.moments import MomentFilter
from rooms.admin.tables import LargeTableAdmin, badge, moment_of
from rooms.models import MessageVersion, Verdict


class HistoryAdmin(LargeTableAdmin):
    """The common part of the two pages: rows of messages that only the server adds."""

    list_select_related = ("message__room",)
    search_help_text = "A message id, serial, client id or primary key of a message."
    search_fields = ("message__message_id",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the rows without the content of their messages."""
        fields = ("text", "binary", "extras", "detail")
        return super().get_queryset(request).defer(*(f"message__{field}" for field in fields))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Return the rows of the messages that the search finds."""
        if not search_term.strip():
            return queryset, False
        keys = message_search.find_or_warn(request, search_term.strip())
        return queryset.filter(message_id__in=keys), False

    @admin.display(description="message")
    def message_link(self, row: Any) -> SafeString:
        """The id of the message."""
        address = reverse("admin:rooms_message_change", args=[row.message_id])
        return format_html('<a href="{}">{}</a>', address, row.message.message_id[:60])


@admin.register(Verdict)
class VerdictAdmin(HistoryAdmin):
    """Every stored verdict: of reviewers, Lambdas, moderators and deadlines."""

    list_display = ("step", "action_badge", "message_link", "reason", moment_of("decided_at", "decided"))
    list_filter = (MomentFilter.of("decided_at"),)
    fields = ("message_link", "step", "action", "reason", "decided_at")
    readonly_fields = fields

    @admin.display(description="verdict")
    def action_badge(self, verdict: Verdict) -> SafeString:
        """The verdict's action."""
        return badge(verdict.action, WORDS.get(verdict.action, ("", Tone.PLAIN))[1])


@admin.register(MessageVersion)
class MessageVersionAdmin(HistoryAdmin):
    """The contents of messages before they were edited or hidden."""

    list_display = ("preview", "message_link", "replaced_by", moment_of("replaced_at", "replaced"))
    list_filter = (MomentFilter.of("replaced_at"),)
    fields = ("message_link", "serial", "action", "preview", "replaced_at", "replaced_by")
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the versions with the start of their text instead of all of it."""
        return with_previews(super().get_queryset(request)).defer(
            "text", "binary", "extras", "message__text", "message__binary", "message__extras", "message__detail"
        )

    @admin.display(description="said")
    def preview(self, version: Any) -> SafeString:
        """The start of the former content."""
        return preview_of(version)
