"""The admin page of callback uses: calls of the verdict endpoint, and their results."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from integrations.admin.tones import CALLBACK_TONES
from integrations.models import CallbackUse
from rooms.admin import message_search
from rooms.admin.moments import MomentFilter
from rooms.admin.tables import LargeTableAdmin, badge, moment_of, quiet


@admin.register(CallbackUse)
class CallbackUseAdmin(LargeTableAdmin):
    """The admin of the uses of callback tokens, applied or refused."""

    list_display = (moment_of("at", "when"), "result_badge", "action", "why", "message_link", "rule_link", "address")
    list_filter = (MomentFilter.of("at"),)
    search_fields = ("message_pk",)  # the field is shown; get_search_results does it
    search_help_text = "A message id, serial or primary key of a message."
    fields = (
        "at", "result", "action", "code", "problem", "message_link", "rule_link", "address", "token_id", "body_digest",
    )  # fmt: skip
    readonly_fields = ("message_link", "rule_link")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Return the uses for the message that the search term names."""
        if not search_term.strip():
            return queryset, False
        return queryset.filter(message_pk__in=message_search.find_or_warn(request, search_term.strip())), False

    @admin.display(description="result")
    def result_badge(self, use: CallbackUse) -> SafeString:
        """The result as a badge."""
        return badge(use.result, CALLBACK_TONES[use.result])

    @admin.display(description="what the caller was told")
    def why(self, use: CallbackUse) -> SafeString:
        """The error that the caller received."""
        if not use.code:
            return quiet(use.get_result_display())
        return format_html("{} <small>code {}</small>", use.problem, use.code)

    @admin.display(description="message")
    def message_link(self, use: CallbackUse) -> SafeString:
        """A link to the token's message; none for a forged token."""
        if use.message_pk is None:
            return quiet("-")
        return format_html(
            '<a href="{}">{}</a>', reverse("admin:rooms_message_change", args=[use.message_pk]), use.message_pk
        )

    @admin.display(description="rule")
    def rule_link(self, use: CallbackUse) -> SafeString:
        """A link to the token's rule."""
        if use.rule_pk is None:
            return quiet("-")
        address = reverse("admin:integrations_integrationrule_change", args=[use.rule_pk])
        return format_html('<a href="{}">rule {}</a>', address, use.rule_pk)
