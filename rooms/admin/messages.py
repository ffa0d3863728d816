"""The admin pages of messages."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from rooms.admin import message_search
from rooms.admin.contents import SHOWN_CHARACTERS, content_of, preview_of, with_previews
from rooms.admin.filters import RoomFilter, StatusFilter
from rooms.admin.inlines import VerdictInline, VersionInline
from rooms.admin.journey import Tone, journey_of
from rooms.admin.moments import MomentFilter
from rooms.admin.tables import LargeTableAdmin, actor, badge, first, log, moment_of, plural, quiet
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


@admin.register(Message)
class MessageAdmin(LargeTableAdmin):
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
    readonly_fields = ("wire_serial", "extras_text")

    # --- Reading ---

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the messages with the start of their text instead of all of it."""
        return with_previews(super().get_queryset(request)).defer("text", "binary", "extras", "detail")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Return the messages that the search finds."""
        room = request.GET.get(RoomFilter.parameter_name, "")
        return message_search.search(request, queryset, search_term.strip(), room=room), False

    @admin.display(description="message")
    def preview(self, message: Any) -> SafeString:
        """The start of the content."""
        return preview_of(message)

    @admin.display(description="room")
    def room_link(self, message: Message) -> SafeString:
        """The room, as a link that filters by it."""
        address = reverse("admin:rooms_message_changelist", query={"room": message.room.name})
        return format_html('<a href="{}"><bdi>{}</bdi></a>', address, message.room.name[:60])

    @admin.display(description="client")
    def client(self, message: Message) -> SafeString:
        """The author, as a link that searches for it."""
        if message.client_id is None:
            return quiet("anonymous")
        address = reverse("admin:rooms_message_changelist", query={"q": message.client_id})
        return format_html('<a href="{}"><bdi>{}</bdi></a>', address, message.client_id[:40])

    @admin.display(description="status")
    def status_badge(self, message: Message) -> SafeString:
        """The status, in a coloured pill."""
        if message.action == MessageAction.DELETE:
            return badge("hidden", Tone.BAD)
        label = "edited" if message.action == MessageAction.UPDATE else message.status
        return badge(label, STATUS_TONES[Status(message.status)])

    @admin.display(description="extras")
    def extras_text(self, message: Message) -> SafeString:
        """The start of the extras."""
        return format_html("<pre>{}</pre>", json.dumps(message.extras, indent=2, ensure_ascii=False)[:SHOWN_CHARACTERS])

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show a message with its journey, and the actions on it."""
        message = self.get_object(request, object_id)
        context = dict(extra_context or {})
        if message is not None and self.has_view_permission(request, message):
            steps = journey_of(message)
            context |= {
                "message": message,
                "journey": steps,
                "waterfalls": lay_out_message(steps, message),
                "facts": facts_of(message, steps),
                "choices": self.choices_for(request, message),
            }
            context |= {"content": content_of(message), "title": "Message"}
        return super().change_view(request, object_id, form_url, context)

    def choices_for(self, request: HttpRequest, message: Message) -> list[dict[str, str]]:
        """Return the actions that a message's page offers."""
        can_hide = message.status == Status.PUBLISHED and message.action != MessageAction.DELETE
        if not can_hide or not self.has_hide_permission(request):
            return []
        return [{"action": "hide", "label": "Hide", "tone": Tone.BAD}]

    # --- Acting ---

    def has_hide_permission(self, request: HttpRequest) -> bool:
        """Whoever may change messages may hide them."""
        return request.user.has_perm("rooms.change_message")

    @admin.action(description="Hide the selected messages", permissions=["hide"])
    def hide(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Hide the published ones of the chosen messages."""
        chosen = first(request, queryset)
        hidden = amend.hide(chosen, by=f"moderator {actor(request)}", now=timezone.now())
        log(request, Message.objects.filter(pk__in=chosen), "Hidden.")
        messages.success(request, f"{plural(hidden, 'message')} hidden. Members see the change at once.")
        if hidden < len(chosen):
            left = plural(len(chosen) - hidden, "message")
            messages.warning(request, f"{left} left as before: not published, or hidden already.")
