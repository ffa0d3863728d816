"""Every HTTP address of the server. WebSockets connect to `/` too: see chatsite.asgi."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from chatsite.http import health
from chatsite.metrics import endpoint

admin.autodiscover()

urlpatterns = [
    path("healthz", health.healthz, name="healthz"),
    path("metrics", endpoint.metrics, name="metrics"),
    path("admin/", admin.site.urls),
    path("", include("rooms.rest.urls")),
    path("", include("integrations.rest.urls")),
    path("", include("rooms.page.urls")),
]
