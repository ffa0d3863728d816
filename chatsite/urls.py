"""Every address of the server. The WebSocket answers at `/` too: see chatsite.asgi."""

from __future__ import annotations

from importlib.util import find_spec

from django.contrib import admin
from django.urls import include, path

from chatsite import health

urlpatterns = [
    path("healthz", health.healthz, name="healthz"),
    path("admin/", admin.site.urls),
    *([path("", include("rooms.rest_urls"))] if find_spec("rooms.rest_urls") else []),
    *([path("", include("integrations.auth_urls"))] if find_spec("integrations.auth_urls") else []),
    *([path("", include("integrations.callback_urls"))] if find_spec("integrations.callback_urls") else []),
    path("", include("rooms.page_urls")),
]
