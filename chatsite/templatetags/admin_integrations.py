"""The notices and the table of rules on the admin's first page, and the filters that templates show rules with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django import template
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, PermissionsMixin
from django.utils import timezone
from django.utils.safestring import SafeString

from integrations.admin.deliveries import verdict_view
from integrations.admin.journey_steps import is_shared
from integrations.admin.rules.overview import calls_by_minute, latency, owed, share, sparkline, success_tone
from integrations.admin.tones import BREAKER_TONES, NOTICE_TONES, kind_of, state_badge
from integrations.models import Notice
from integrations.monitoring import figures, notices
from integrations.monitoring.figures import RuleFigures

register = template.Library()
FILTERS: dict[str, Callable[[Any], Any]] = {
    "is_shared": is_shared,
    "kind": kind_of,
    "latency": latency,
    "owed": owed,
    "share": share,
    "state_badge": state_badge,
    "success_tone": success_tone,
    "breaker_tone": lambda breaker: BREAKER_TONES[breaker],
    "verdict": verdict_view.read,
    "notice_tone": lambda level: NOTICE_TONES[level],
}
for name, shown in FILTERS.items():
    register.filter(name, shown)

SHOWN_NOTICES = 5
SHOWN_RULES = 12


@register.simple_tag
def open_notices(user: AbstractBaseUser | AnonymousUser) -> Sequence[Notice]:
    """Return the newest notices that nobody has dismissed; none without the permission to view notices."""
    if not isinstance(user, PermissionsMixin) or not user.has_perm("integrations.view_notice"):
        return []
    return notices.open_notices(SHOWN_NOTICES)


@register.simple_tag
def rules_now(user: AbstractBaseUser | AnonymousUser) -> list[tuple[RuleFigures, SafeString]]:
    """Return the figures of enabled rules with a chart of each, rules in trouble first.

    Without the permission to view rules there are none.
    """
    if not isinstance(user, PermissionsMixin) or not user.has_perm("integrations.view_integrationrule"):
        return []
    now = timezone.now()
    found = [one for one in figures.of_rules(now=now) if one.rule.enabled]
    shown = sorted(found, key=_rank)[:SHOWN_RULES]
    minutes = calls_by_minute([one.rule.pk for one in shown], now)
    return [(one, sparkline(one, minutes[one.rule.pk])) for one in shown]


def _rank(found: RuleFigures) -> tuple[bool, bool, bool]:
    """Return the sort key of a rule: an open breaker, then failing calls, then dead letters.

    A breaker alone says too little: in a worker that has just started it is closed, however long no call succeeded.
    """
    return not found.throttle.is_open, found.failing_since is None, not found.backlog.dead
