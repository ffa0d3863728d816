"""The admin pages of verdicts and of former versions, across all messages."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from rooms.admin.cells import badge, column, link, moment_of
from rooms.admin.contents import preview_of, with_previews
from rooms.admin.journey import WORDS, Tone
from rooms.admin.moments import MomentFilter
from rooms.admin.tables import MessageRowsAdmin
from rooms.models import MessageVersion, Verdict


class HistoryAdmin(MessageRowsAdmin):
    """The common part of the two pages: rows of messages that only the server adds."""

    list_select_related = ("message__room",)
    search_help_text = "A message id, serial, client id or primary key of a message."
    search_fields = ("message__message_id",)
    message_link = column(
        "message", lambda row: link("rooms_message_change", row.message.message_id[:60], row.message_id)
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the rows without the content of their messages."""
        fields = ("text", "binary", "extras", "detail")
        return super().get_queryset(request).defer(*(f"message__{field}" for field in fields))


@admin.register(Verdict)
class VerdictAdmin(HistoryAdmin):
    """Every stored verdict: of reviewers, Lambdas, moderators and deadlines."""

    list_display = ("step", "action_badge", "message_link", "reason", moment_of("decided_at", "decided"))
    list_filter = (MomentFilter.of("decided_at"),)
    fields = ("message_link", "step", "action", "reason", "decided_at")
    action_badge = column("verdict", lambda row: badge(row.action, WORDS.get(row.action, ("", Tone.PLAIN))[1]))


@admin.register(MessageVersion)
class MessageVersionAdmin(HistoryAdmin):
    """The contents of messages before they were edited or hidden."""

    list_display = ("preview", "message_link", "replaced_by", moment_of("replaced_at", "replaced"))
    list_filter = (MomentFilter.of("replaced_at"),)
    fields = ("message_link", "serial", "action", "preview", "replaced_at", "replaced_by")
    preview = column("said", preview_of)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the versions with the start of their text instead of all of it."""
        return with_previews(super().get_queryset(request)).defer("text", "binary", "extras")
