"""Addresses at which tokens are given out, and revoked."""

from __future__ import annotations

from django.urls import path

from integrations.access.auth_views import PageToken, RequestToken, RevokeTokens

app_name = "auth"

urlpatterns = [
    path("auth", PageToken.as_view(), name="page-token"),
    path("keys/<str:key_name>/requestToken", RequestToken.as_view(), name="request-token"),
    path("keys/<str:key_name>/revokeTokens", RevokeTokens.as_view(), name="revoke-tokens"),
]
