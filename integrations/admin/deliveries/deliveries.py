"""The admin pages of deliveries, attempts and lanes."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from integrations import outbox
from integrations.admin import tones
from integrations.admin.deliveries.overview import context_of
from integrations.models import Attempt, Delivery, DeliveryState, Lane
from rooms.admin import message_search
from rooms.admin.cells import column, isolated, link, moment, moment_of, plural
from rooms.admin.filters import RoomFilter, condition_filter
from rooms.admin.moments import MomentFilter
from rooms.admin.tables import LargeTableAdmin, MessageRowsAdmin, first, log

NEWEST = 10_000  # a search by webhook id looks at the newest so many deliveries


def state_of(delivery: Delivery) -> SafeString:
    """Return the state of a delivery as a badge, and the time of the next call if there is one."""
    pill = tones.state_badge(delivery.state)
    if delivery.finished_at is not None or delivery.in_lane or delivery.state != DeliveryState.PENDING:
        return pill
    return format_html("{}<small>due {}</small>", pill, moment(delivery.due_at))


def last_answer(delivery: Delivery) -> str:
    """Return the result of a delivery's last call."""
    answer = " ".join(str(part) for part in (delivery.last_status, delivery.last_error[:80]) if part)
    if not answer:
        # Delivered without a call: the verdict came from another call about the same text.
        answer = "shared" if delivery.state == DeliveryState.DELIVERED else "none yet"
    return f"{answer} ({plural(delivery.attempts, 'call')})" if delivery.attempts > 1 else answer


# Conditions that have a small index; the other states are most of the table.
StateFilter = condition_filter(
    "state",
    # Each half has its own partial index.
    unfinished=(
        "Waiting or under way",
        Q(finished_at__isnull=True, in_lane=False) | Q(finished_at__isnull=True, in_lane=True),
    ),
    dead=("Dead letters", Q(state=DeliveryState.DEAD)),
)


@admin.register(Delivery)
class DeliveryAdmin(MessageRowsAdmin):
    """The admin of deliveries. Finished ones can be resent."""

    list_display = ("short_id", "rule_and_room", "event_name", "state_badge", "last", moment_of("created_at", "made"))
    list_filter = (StateFilter, "rule", MomentFilter.of("created_at"))
    allowed_lookups = ("rule__id__exact",)
    list_select_related = ("rule", "room")
    search_fields = ("webhook_id",)
    search_help_text = f"A message id, serial or primary key; or a webhook id, among the newest {NEWEST:,}."
    actions = ("resend",)
    change_form_template = "admin/delivery.html"
    fieldsets = (
        (
            "All fields",
            {
                "classes": ("collapse",),
                "fields": (
                    ("webhook_id", "event", "serial"),
                    ("attempts", "forgiven"),
                    ("created_at", "due_at"),
                    ("deadline", "finished_at"),
                    ("last_status", "last_error"),
                    "owner",
                ),
            },
        ),
    )
    short_id = column("webhook id", lambda one: f"{one.webhook_id[:12]}…")
    rule_and_room = column(
        "rule, room",
        lambda one: format_html("<bdi>{}</bdi><small><bdi>{}</bdi></small>", one.rule.name, one.room.name[:60]),
    )
    event_name = column("event", lambda one: one.event.removeprefix("channel."))
    state_badge = column("state", state_of)
    last = column("last answer", last_answer)

    # --- Reading ---

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return deliveries without their payloads and verdicts."""
        return super().get_queryset(request).defer("payload", "answer")

    def find(self, request: HttpRequest, rows: QuerySet[Any], term: str) -> QuerySet[Any]:
        """Return the deliveries of the message that a term names, or the one with this webhook id."""
        found = message_search.find_or_warn(request, term)
        if found:
            return rows.filter(message_id__in=found)
        newest = Delivery.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
        return rows.filter(pk__gt=newest - NEWEST, webhook_id=term)

    def page_context(self, request: HttpRequest, row: Delivery) -> dict[str, Any]:
        """Return a delivery's request, its calls and its verdict."""
        may_call = request.user.has_perm("integrations.change_integrationrule")
        context = context_of(row, now=timezone.now(), may_call=may_call)
        return context | {"can_resend": context["can_resend"] and self.has_act_permission(request)}

    # --- Acting ---

    @admin.action(description="Resend the selected deliveries", permissions=["act"])
    def resend(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Resend finished deliveries."""
        chosen = first(request, queryset)
        resent = outbox.resend(chosen, now=timezone.now())
        log(request, Delivery.objects.filter(pk__in=chosen), "Resent.")
        if resent:
            messages.success(request, f"{plural(resent, 'delivery')} on the way again, under the same webhook id.")
        if resent < len(chosen):
            left = plural(len(chosen) - resent, "delivery")
            messages.warning(request, f"{left} left as before: not finished yet, or its message was decided long ago.")


@admin.register(Attempt)
class AttemptAdmin(MessageRowsAdmin):
    """The admin of attempts, the calls for deliveries."""

    list_display = (
        moment_of("started_at", "called"), "rule", "status_badge", "duration", "error", "delivery_link", "number",
    )  # fmt: skip
    list_filter = (MomentFilter.of("started_at"),)
    list_select_related = ("delivery__rule",)
    search_fields = ("delivery__webhook_id",)
    fields = ("delivery_link", "number", "started_at", "duration_ms", "status", "error", "response", "worker")
    rule = column("rule", lambda attempt: attempt.delivery.rule.name)
    status_badge = column("answer", lambda attempt: tones.status_badge(attempt.status))
    duration = column("took", lambda attempt: f"{attempt.duration_ms:,.0f} ms")
    delivery_link = column(
        "delivery",
        lambda attempt: link("integrations_delivery_change", attempt.delivery.webhook_id, attempt.delivery_id),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return attempts without payloads and answers."""
        return super().get_queryset(request).defer("response", "delivery__payload", "delivery__answer")

    def find(self, request: HttpRequest, rows: QuerySet[Any], term: str) -> QuerySet[Any]:
        """Return the attempts for the message that a term names."""
        found = message_search.find_or_warn(request, term)
        deliveries = list(Delivery.objects.filter(message_id__in=found).values_list("pk", flat=True)[:1000])
        return rows.filter(delivery_id__in=deliveries)


@admin.register(Lane)
class LaneAdmin(LargeTableAdmin):
    """The admin of lanes, the queues of one room's deliveries to one rule."""

    list_display = ("rule", "room_name", moment_of("due_at", "due"), "owner", "fence")
    list_filter = ("rule", RoomFilter)
    allowed_lookups = ("rule__id__exact",)
    list_select_related = ("rule", "room")
    ordering = ("-id",)
    fields = ("rule", "room_name", "due_at", "owner", "fence", "narrow")
    room_name = column("room", lambda lane: isolated(lane.room.name[:60]))
