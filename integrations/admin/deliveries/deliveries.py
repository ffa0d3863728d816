"""The admin pages of deliveries, attempts and lanes."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from integrations import outbox
from integrations.admin import tones
from integrations.admin.deliveries.overview import context_of
from integrations.models import Attempt, Delivery, DeliveryState, Lane
from rooms.admin import message_search
from rooms.admin.filters import RoomFilter
from rooms.admin.moments import MomentFilter
from rooms.admin.tables import LargeTableAdmin, first, log, moment, moment_of, plural

NEWEST = 10_000  # a search by webhook id looks at the newest so many deliveries


class StateFilter(admin.SimpleListFilter):
    """Filters deliveries by the states that have a small index; the other states are most of the table."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the choices."""
        return [("unfinished", "Waiting or under way"), ("dead", "Dead letters")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the deliveries of the choice."""
        if self.value() == "dead":
            return queryset.filter(state=DeliveryState.DEAD)
        if self.value() == "unfinished":
            # Two conditions: each has its own partial index.
            is_open = {"finished_at__isnull": True}
            return queryset.filter(Q(**is_open, in_lane=False) | Q(**is_open, in_lane=True))
        return queryset


@admin.register(Delivery)
class DeliveryAdmin(LargeTableAdmin):
    """The admin of deliveries. Finished ones can be resent."""

    list_display = ("short_id", "rule_and_room", "event_name", "state_badge", "last", moment_of("created_at", "made"))
    list_filter = (StateFilter, "rule", MomentFilter.of("created_at"))
    allowed_lookups = ("rule__id__exact",)
    list_select_related = ("rule", "room")
    search_fields = ("webhook_id",)  # the field is shown; get_search_results does it
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

    # --- Reading ---

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return deliveries without their payloads and verdicts."""
        return super().get_queryset(request).defer("payload", "answer")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Return the deliveries of the message that the search term names, or the one with this webhook id."""
        term = search_term.strip()
        if not term:
            return queryset, False
        found = message_search.find_or_warn(request, term)
        if found:
            return queryset.filter(message_id__in=found), False
        newest = Delivery.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
        return queryset.filter(pk__gt=newest - NEWEST, webhook_id=term), False

    @admin.display(description="webhook id")
    def short_id(self, delivery: Delivery) -> str:
        """The beginning of the webhook id."""
        return f"{delivery.webhook_id[:12]}…"

    @admin.display(description="rule, room")
    def rule_and_room(self, delivery: Delivery) -> SafeString:
        """The delivery's rule, and the room of its event."""
        return format_html("<bdi>{}</bdi><small><bdi>{}</bdi></small>", delivery.rule.name, delivery.room.name[:60])

    @admin.display(description="event")
    def event_name(self, delivery: Delivery) -> str:
        """The name of the event."""
        return delivery.event.removeprefix("channel.")

    @admin.display(description="state")
    def state_badge(self, delivery: Delivery) -> SafeString:
        """The state as a badge, and the time of the next call if there is one."""
        pill = tones.state_badge(delivery.state)
        if delivery.finished_at is not None or delivery.in_lane or delivery.state != DeliveryState.PENDING:
            return pill
        return format_html("{}<small>due {}</small>", pill, moment(delivery.due_at))

    @admin.display(description="last answer")
    def last(self, delivery: Delivery) -> str:
        """The result of the last call."""
        answer = " ".join(str(part) for part in (delivery.last_status, delivery.last_error[:80]) if part)
        if not answer:
            # Delivered without a call: the verdict came from another call about the same text.
            answer = "shared" if delivery.state == DeliveryState.DELIVERED else "none yet"
        return f"{answer} ({plural(delivery.attempts, 'call')})" if delivery.attempts > 1 else answer

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show a delivery with its request, its calls and its verdict."""
        context = dict(extra_context or {})
        delivery = self.get_object(request, object_id)
        if delivery is not None and self.has_view_permission(request, delivery):
            may_call = request.user.has_perm("integrations.change_integrationrule")
            context |= context_of(delivery, now=timezone.now(), may_call=may_call)
            context |= {
                "title": context["headline"],
                "can_resend": context["can_resend"] and self.has_resend_permission(request),
            }
        return super().change_view(request, object_id, form_url, context)

    # --- Acting ---

    def has_resend_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may resend deliveries."""
        return request.user.has_perm("integrations.change_delivery")

    @admin.action(description="Resend the selected deliveries", permissions=["resend"])
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
class AttemptAdmin(LargeTableAdmin):
    """The admin of attempts, the calls for deliveries."""

    list_display = (
        moment_of("started_at", "called"),
        "rule",
        "status_badge",
        "duration",
        "error",
        "delivery_link",
        "number",
    )
    list_filter = (MomentFilter.of("started_at"),)
    list_select_related = ("delivery__rule",)
    search_fields = ("delivery__webhook_id",)
    search_help_text = "A message id, serial or primary key of a message."
    fields = ("delivery_link", "number", "started_at", "duration_ms", "status", "error", "response", "worker")
    readonly_fields = ("delivery_link",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return attempts without payloads and answers."""
        return super().get_queryset(request).defer("response", "delivery__payload", "delivery__answer")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Return the attempts for the message that the search term names."""
        if not search_term.strip():
            return queryset, False
        found = message_search.find_or_warn(request, search_term.strip())
        deliveries = list(Delivery.objects.filter(message_id__in=found).values_list("pk", flat=True)[:1000])
        return queryset.filter(delivery_id__in=deliveries), False

    @admin.display(description="rule")
    def rule(self, attempt: Attempt) -> str:
        """The rule of the attempt's delivery."""
        return attempt.delivery.rule.name

    @admin.display(description="answer")
    def status_badge(self, attempt: Attempt) -> SafeString:
        """The HTTP status as a badge."""
        return tones.status_badge(attempt.status)

    @admin.display(description="took")
    def duration(self, attempt: Attempt) -> str:
        """The duration of the call."""
        return f"{attempt.duration_ms:,.0f} ms"

    @admin.display(description="delivery")
    def delivery_link(self, attempt: Attempt) -> SafeString:
        """A link to the attempt's delivery."""
        address = reverse("admin:integrations_delivery_change", args=[attempt.delivery_id])
        return format_html('<a href="{}">{}</a>', address, attempt.delivery.webhook_id)


@admin.register(Lane)
class LaneAdmin(LargeTableAdmin):
    """The admin of lanes, the queues of one room's deliveries to one rule."""

    list_display = ("rule", "room_name", moment_of("due_at", "due"), "owner", "fence")
    list_filter = ("rule", RoomFilter)
    allowed_lookups = ("rule__id__exact",)
    list_select_related = ("rule", "room")
    ordering = ("-id",)
    fields = ("rule", "room_name", "due_at", "owner", "fence", "narrow")
    readonly_fields = ("room_name",)

    @admin.display(description="room")
    def room_name(self, lane: Lane) -> SafeString:
        """The lane's room."""
        return format_html("<bdi>{}</bdi>", lane.room.name[:60])
