"""The admin page of gateways: the processes that hold WebSockets, and whether they are alive."""

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
    """Gateways, which report themselves; one that fell silent is shown for another minute."""

    list_display = ("process", "held", "state", moment_of("started_at", "since"), moment_of("seen_at", "last seen"))
    list_display_links = None
    ordering = ("host", "pid")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the gateways, annotated with whether they are alive by Postgres' clock."""
        alive = ExpressionWrapper(store.is_alive(), output_field=BooleanField())
        gateways: QuerySet[Any] = super().get_queryset(request).annotate(is_alive=alive)
        return gateways

    @admin.display(description="gateway")
    def process(self, gateway: GatewayProcess) -> SafeString:
        """The gateway's host and process, and its id in CONNECTED and in the metrics."""
        return format_html("<bdi>{}</bdi>, process {} <small>{}</small>", gateway.host, gateway.pid, gateway.server_id)

    @admin.display(description="connections")
    def held(self, gateway: GatewayProcess) -> SafeString:
        """The number of its WebSockets, and the most that it may hold."""
        return format_html("{} <small>of {}</small>", f"{gateway.connections:,}", f"{gateway.connections_max:,}")

    @admin.display(description="state")
    def state(self, gateway: Any) -> SafeString:
        """Whether its last heartbeat is recent, so that its connections count."""
        return badge("alive", "good") if gateway.is_alive else badge("silent", "bad")
