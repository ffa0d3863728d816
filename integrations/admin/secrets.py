"""Shows a new secret once: in the answer to the request that created it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.urls import reverse


def shown_once(
    request: HttpRequest,
    model_admin: admin.ModelAdmin[Any],
    *,
    title: str,
    advice: str,
    secrets: Sequence[tuple[str, str]],
) -> TemplateResponse:
    """Return a page with (name, secret) pairs that is never cached. Not a redirect: its message would be stored."""
    opts = model_admin.model._meta
    context = {
        **model_admin.admin_site.each_context(request),
        "opts": opts,
        "title": title,
        "advice": advice,
        "secrets": secrets,
        "back": reverse(f"admin:{opts.app_label}_{opts.model_name}_changelist"),
    }
    headers = {"Cache-Control": "no-store"}
    return TemplateResponse(request, "admin/secret_once.html", context, headers=headers)
