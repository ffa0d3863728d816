"""The addresses at which tokens are issued and revoked, and at which targets give verdicts."""

from __future__ import annotations

from django.urls import path

from integrations.rest.callback_views import CallbackView
from integrations.rest.token_views import PageToken, RequestToken, RevokeTokens

urlpatterns = [
    path("auth", PageToken.as_view(), name="page-token"),
    path("keys/<str:key_name>/requestToken", RequestToken.as_view(), name="request-token"),
    path("keys/<str:key_name>/revokeTokens", RevokeTokens.as_view(), name="revoke-tokens"),
    path("integrations/verdict", CallbackView.as_view(), name="verdict"),
]
