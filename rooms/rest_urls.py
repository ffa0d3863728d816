"""Addresses of the REST API."""

from __future__ import annotations

from django.urls import path

from rooms import rest, rest_status

urlpatterns = [
    path("time", rest.server_time),
    # A room's name may hold slashes, escaped or not.
    path("channels/<path:name>/messages", rest.messages),
    path("channels/<path:name>", rest_status.status),
    path("channels", rest_status.listing),
]
