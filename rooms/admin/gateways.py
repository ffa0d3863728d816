"""The admin page of gateways: the processes that hold WebSockets, and whether they are alive."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import ExpressionWrapper, QuerySet
from django.db.models.fields import BooleanField
from django.http import HttpRequest
from django.utils.html import format_html

from rooms.admin.cells import badge, column, moment_of
from rooms.admin.journey import Tone
from rooms.admin.tables import LargeTableAdmin
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

    # The id is the one in CONNECTED and in the metrics.
    process = column(
        "gateway",
        lambda one: format_html("<bdi>{}</bdi>, process {} <small>{}</small>", one.host, one.pid, one.server_id),
    )
    held = column(
        "connections",
        lambda one: format_html("{} <small>of {}</small>", f"{one.connections:,}", f"{one.connections_max:,}"),
    )
    state = column("state", lambda one: badge("alive", Tone.GOOD) if one.is_alive else badge("silent", Tone.BAD))
