"""The admin page of callback uses: calls of the verdict endpoint, and their results."""

from __future__ import annotations

from django.contrib import admin
from django.utils.html import format_html
from django.utils.safestring import SafeString

from integrations.admin.tones import CALLBACK_TONES
from integrations.models import CallbackUse
from rooms.admin.cells import badge, column, link, moment_of, quiet
from rooms.admin.moments import MomentFilter
from rooms.admin.tables import MessageRowsAdmin


def answer_of(use: CallbackUse) -> SafeString:
    """Return the error that the caller received, or what became of the verdict."""
    if not use.code:
        return quiet(use.get_result_display())
    return format_html("{} <small>code {}</small>", use.problem, use.code)


def link_unless_none(page: str, text: str, key: int | None) -> SafeString:
    """Return a link to the page of a row; a dash for a token that names none."""
    return quiet() if key is None else link(page, text.format(key), key)


@admin.register(CallbackUse)
class CallbackUseAdmin(MessageRowsAdmin):
    """The admin of the uses of callback tokens, applied or refused. A forged token has neither message nor rule."""

    list_display = (moment_of("at", "when"), "result_badge", "action", "why", "message_link", "rule_link", "address")
    list_filter = (MomentFilter.of("at"),)
    search_fields = ("message_pk",)
    message_field = "message_pk"
    fields = (
        "at", "result", "action", "code", "problem", "message_link", "rule_link", "address", "token_id", "body_digest",
    )  # fmt: skip
    result_badge = column("result", lambda use: badge(use.result, CALLBACK_TONES[use.result]))
    why = column("what the caller was told", answer_of)
    message_link = column("message", lambda use: link_unless_none("rooms_message_change", "{}", use.message_pk))
    rule_link = column(
        "rule", lambda use: link_unless_none("integrations_integrationrule_change", "rule {}", use.rule_pk)
    )
