"""The admin page of gateways: which processes hold WebSockets, and whether they are well."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import ExpressionWrapper, QuerySet
from django.db.models.fields import BooleanField
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from rooms.admin.tables import LargeTableAdmin, badge, moment_of
from rooms.models import GatewayProcess
from rooms.occupancy import store


@admin.register(GatewayProcess)
class GatewayAdmin(LargeTableAdmin):
    """Gateways report themselves; one that fell silent is shown for a minute and then forgotten."""

    list_display = ("process", "held", "state", moment_of("started_at", "since"), moment_of("seen_at", "last seen"))
    list_display_links = None
    ordering = ("host", "pid")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the gateways, each with whether it is alive by the database's clock."""
        alive = ExpressionWrapper(store.is_alive(), output_field=BooleanField())
        gateways: QuerySet[Any] = super().get_queryset(request).annotate(is_alive=alive)
        return gateways

    @admin.display(description="gateway")
    def process(self, gateway: GatewayProcess) -> SafeString:
        """Where it runs, and the name under which clients and metrics know it."""
        return format_html("<bdi>{}</bdi>, process {} <small>{}</small>", gateway.host, gateway.pid, gateway.server_id)

    @admin.display(description="connections")
    def held(self, gateway: GatewayProcess) -> SafeString:
        """How many WebSockets it holds, and how many it may."""
        return format_html("{} <small>of {}</small>", f"{gateway.connections:,}", f"{gateway.connections_max:,}")

    @admin.display(description="state")
    def state(self, gateway: Any) -> SafeString:
        """Whether it counts: its last heartbeat was a moment ago."""
        return badge("alive", "good") if gateway.is_alive else badge("silent", "bad")
