"""Addresses of the REST API."""

from __future__ import annotations

from django.urls import path

from rooms.rest import channels, messages

urlpatterns = [
    path("time", messages.server_time),
    # A room's name may hold slashes, escaped or not.
    path("channels/<path:name>/messages", messages.messages),
    path("channels/<path:name>", channels.status),
    path("channels", channels.listing),
]
