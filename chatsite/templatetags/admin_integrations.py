"""The notices and the table of rules on the admin's first page, as template tags that look at permissions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django import template
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, PermissionsMixin
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString, mark_safe

from integrations.admin.rules.overview import calls_by_minute, share, success_tone
from integrations.admin.tones import BREAKER_TONES, NOTICE_TONES, kind_of
from integrations.monitoring import charts, figures, notices
from integrations.monitoring.figures import RuleFigures
from rooms.admin.journey import Tone
from rooms.admin.waterfall import duration

register = template.Library()

SHOWN_NOTICES = 5
SHOWN_RULES = 12


@dataclass(frozen=True, kw_only=True)
class NoticeView:
    """A notice on the first page, with the addresses of its rule and of its *Dismiss* button."""

    title: str
    text: str
    at: datetime
    tone: Tone
    rule: str = ""
    rule_url: str = ""
    dismiss_url: str = ""


@dataclass(frozen=True, kw_only=True)
class RuleView:
    """A rule's line in the table *Integrations now*: its figures as text, and their colours."""

    name: str
    kind: str
    url: str
    spark: SafeString
    success: str
    success_tone: Tone
    p50: str
    p99: str
    breaker: str
    breaker_tone: Tone
    owed: str
    dead: int


@register.simple_tag
def open_notices(user: AbstractBaseUser | AnonymousUser) -> list[NoticeView]:
    """Return the newest notices that nobody has dismissed; none without the permission to view notices."""
    if not isinstance(user, PermissionsMixin) or not user.has_perm("integrations.view_notice"):
        return []
    may_dismiss = user.has_perm("integrations.change_notice")
    return [
        NoticeView(
            title=notice.title,
            text=notice.text,
            at=notice.created_at,
            tone=NOTICE_TONES[notice.level],
            rule=notice.rule.name if notice.rule else "",
            rule_url=_rule_url(notice.rule_id) if notice.rule_id else "",
            dismiss_url=reverse("admin:integrations_notice_dismiss", args=[notice.pk]) if may_dismiss else "",
        )
        for notice in notices.open_notices(SHOWN_NOTICES)
    ]


@register.simple_tag
def rules_now(user: AbstractBaseUser | AnonymousUser) -> list[RuleView]:
    """Return a line for each enabled rule, rules in trouble first; none without the permission to view rules."""
    if not isinstance(user, PermissionsMixin) or not user.has_perm("integrations.view_integrationrule"):
        return []
    now = timezone.now()
    found = [one for one in figures.of_rules(now=now) if one.rule.enabled]
    shown = sorted(found, key=_rank)[:SHOWN_RULES]
    minutes = calls_by_minute([one.rule.pk for one in shown], now)
    return [_view(one, minutes[one.rule.pk]) for one in shown]


def _rank(found: RuleFigures) -> tuple[bool, bool, bool]:
    """Return the sort key of a rule: an open breaker, then failing calls, then dead letters.

    A breaker alone says too little: in a worker that has just started it is closed, however long no call succeeded.
    """
    return not found.throttle.is_open, found.failing_since is None, not found.backlog.dead


def _view(found: RuleFigures, calls: list[int]) -> RuleView:
    recent, rule = found.recent, found.rule
    tone = "bad" if found.throttle.is_open else "1"
    # charts escapes every text that it is given.
    spark = mark_safe(charts.sparkline(calls, label=f"calls a minute of {rule.name}", tone=tone))
    return RuleView(
        name=rule.name,
        kind=kind_of(rule),
        url=_rule_url(rule.pk),
        spark=spark,
        success=share(recent.success),
        success_tone=success_tone(recent.success),
        p50="–" if recent.p50 is None else duration(recent.p50),
        p99="–" if recent.p99 is None else duration(recent.p99),
        breaker=found.throttle.breaker,
        breaker_tone=BREAKER_TONES[found.throttle.breaker],
        owed=f"{found.backlog.size:,}{'+' if found.backlog.is_cut else ''}",
        dead=found.backlog.dead,
    )


def _rule_url(rule_id: int) -> str:
    return reverse("admin:integrations_integrationrule_change", args=[rule_id])
