"""The admin pages of messages."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from rooms.admin import message_search
from rooms.admin.cells import badge, column, isolated, link, moment_of, plural, quiet
from rooms.admin.contents import SHOWN_CHARACTERS, content_of, preview_of, with_previews
from rooms.admin.filters import RoomFilter, condition_filter
from rooms.admin.inlines import VerdictInline, VersionInline
from rooms.admin.journey import Tone, journey_of
from rooms.admin.moments import MomentFilter
from rooms.admin.tables import MessageRowsAdmin, actor, first, log
from rooms.admin.waterfall import facts_of, lay_out_message
from rooms.log import amend
from rooms.models import Message, MessageAction, Status

STATUS_TONES = {
    Status.ACCEPTED: Tone.WAITING,
    Status.APPROVED: Tone.WAITING,
    Status.HELD: Tone.WAITING,
    Status.PUBLISHED: Tone.GOOD,
    Status.REJECTED: Tone.BAD,
}

StatusFilter = condition_filter(
    "status",
    waiting=("Waiting for a verdict", Q(status__in=[Status.ACCEPTED, Status.APPROVED])),
    held=("Held for a moderator", Q(status=Status.HELD)),
    published=("Published", Q(status=Status.PUBLISHED)),
    rejected=("Rejected", Q(status=Status.REJECTED)),
    edited=("Edited", Q(action=MessageAction.UPDATE, action__gt=0)),
    hidden=("Hidden", Q(action=MessageAction.DELETE, action__gt=0)),
)


def status_of(message: Message) -> SafeString:
    """Return the status of a message in a coloured pill."""
    if message.action == MessageAction.DELETE:
        return badge("hidden", Tone.BAD)
    label = "edited" if message.action == MessageAction.UPDATE else message.status
    return badge(label, STATUS_TONES[Status(message.status)])


def author_of(message: Message) -> SafeString:
    """Return the author of a message, as a link that searches for it."""
    if message.client_id is None:
        return quiet("anonymous")
    return link("rooms_message_changelist", isolated(message.client_id[:40]), q=message.client_id)


def extras_of(message: Message) -> SafeString:
    """Return the start of the extras of a message."""
    return format_html("<pre>{}</pre>", json.dumps(message.extras, indent=2, ensure_ascii=False)[:SHOWN_CHARACTERS])


@admin.register(Message)
class MessageAdmin(MessageRowsAdmin):
    """The pages that find messages, show their journey, and hide them."""

    list_display = ("preview", "room_link", "client", "status_badge", moment_of("accepted_at", "accepted"))
    list_display_links = ("preview",)
    list_filter: ClassVar[Any] = (StatusFilter, MomentFilter.of("accepted_at"), RoomFilter)
    list_select_related = ("room",)
    search_fields = ("message_id",)  # the field is shown; message_search does it
    search_help_text = (
        f"A message id (in the room that is chosen, or in the {message_search.MAX_ROOMS:,} rooms that were written to "
        "last), serial, client id or primary key; or words, looked for in the newest "
        f"{message_search.NEWEST:,} messages."
    )
    actions: Any = ("hide",)
    inlines = (VerdictInline, VersionInline)
    change_form_template = "admin/message.html"
    fieldsets = (
        (
            "All fields",
            {
                "classes": ("collapse",),
                "fields": (
                    ("id", "message_id"),
                    ("client_id", "connection_id", "author"),
                    ("name", "encoding"),
                    ("status", "action", "wire_serial", "created_serial"),
                    ("accepted_at", "published_at", "changed_at"),
                    ("awaiting", "deadline", "at_deadline"),
                    ("error_code", "reason"),
                    "detail",
                    "extras_text",
                ),
            },
        ),
    )
    preview = column("message", preview_of)
    room_link = column(
        "room", lambda one: link("rooms_message_changelist", isolated(one.room.name[:60]), room=one.room.name)
    )
    client = column("client", author_of)
    status_badge = column("status", status_of)
    extras_text = column("extras", extras_of)

    # --- Reading ---

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the messages with the start of their text instead of all of it."""
        return with_previews(super().get_queryset(request)).defer("text", "binary", "extras", "detail")

    def find(self, request: HttpRequest, rows: QuerySet[Any], term: str) -> QuerySet[Any]:
        """Return the messages that a term finds."""
        return message_search.search(request, rows, term, room=request.GET.get(RoomFilter.parameter_name, ""))

    def page_context(self, request: HttpRequest, row: Message) -> dict[str, Any]:
        """Return a message's journey, and the actions on it."""
        steps = journey_of(row)
        return {
            "title": "Message",
            "message": row,
            "content": content_of(row),
            "journey": steps,
            "waterfalls": lay_out_message(steps, row),
            "facts": facts_of(row, steps),
            "choices": self.choices_for(request, row),
        }

    def choices_for(self, request: HttpRequest, message: Message) -> list[dict[str, str]]:
        """Return the actions that a message's page offers."""
        can_hide = message.status == Status.PUBLISHED and message.action != MessageAction.DELETE
        if not can_hide or not self.has_act_permission(request):
            return []
        return [{"action": "hide", "label": "Hide", "tone": Tone.BAD}]

    # --- Acting ---

    @admin.action(description="Hide the selected messages", permissions=["act"])
    def hide(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Hide the published ones of the chosen messages."""
        chosen = first(request, queryset)
        hidden = amend.hide(chosen, by=f"moderator {actor(request)}", now=timezone.now())
        log(request, Message.objects.filter(pk__in=chosen), "Hidden.")
        messages.success(request, f"{plural(hidden, 'message')} hidden. Members see the change at once.")
        if hidden < len(chosen):
            left = plural(len(chosen) - hidden, "message")
            messages.warning(request, f"{left} left as before: not published, or hidden already.")
