"""Tracks since when every call of a rule fails, warns administrators, and turns such rules off.

Rules that decide about messages are never turned off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from django.conf import settings
from django.db import connection, transaction

from integrations.models import AtDeadline, IntegrationRule, NoticeLevel, RuleHealth, When
from integrations.monitoring import notices
from integrations.rules import rules

RULE_WARN_BEFORE_SECONDS = 60.0  # soon: messages wait for a rule before publish

ERROR_MAX_CHARACTERS: Final = 500


@dataclass(slots=True)
class Observed:
    """The results of one rule's calls in one worker within a few seconds."""

    rule_id: int
    succeeded: bool = False  # at least one call
    failed_at: datetime | None = None  # the first failure
    error: str = ""  # of the last failure
    gone: bool = False
    dead: int = 0

    def failed(self, error: str, at: datetime, *, gone: bool) -> None:
        """Add a failed call."""
        self.failed_at = self.failed_at or at
        self.error = error[:ERROR_MAX_CHARACTERS]
        self.gone |= gone


def observe(seen: Sequence[Observed], *, now: datetime) -> None:
    """Update the health of rules from what a worker saw, and write the notices that follow. Idempotent."""
    recovered = [one.rule_id for one in seen if one.succeeded]
    failing = [one for one in seen if one.failed_at is not None and not one.succeeded]
    if recovered:
        _recover(recovered, now)
    if failing:
        _fail(failing)
        for health in RuleHealth.objects.filter(rule_id__in=[one.rule_id for one in failing]).select_related("rule"):
            _judge(health, now)
    for one in seen:
        if one.gone:
            retire(one.rule_id, now=now)
        if one.dead:
            _notify_dead_letters(one.rule_id, now)


def retire(rule_id: int, *, now: datetime) -> None:
    """Turn off a rule whose target answered 410 Gone. A rule that decides stays on, and a notice is written."""
    rule = IntegrationRule.objects.filter(pk=rule_id, enabled=True).first()
    if rule is None:
        return
    if decides(rule):
        notices.write(
            f"{rule.name}: its target is gone (HTTP 410)", text=_policy(rule), level=NoticeLevel.ERROR,
            rule_id=rule.pk, now=now,
        )  # fmt: skip
    else:
        _turn_off(rule, "its target is gone (HTTP 410)", now)


def decides(rule: IntegrationRule) -> bool:
    """Return whether messages wait for a rule's verdict: such a rule is never turned off automatically."""
    return rule.when == When.BEFORE and (not rule.is_shadow or rule.stands_in)


# --- Transitions ------------------------------------------------------------------------------------------

# Writes only changes: a rule that keeps failing with the same error is only read.
START_FAILING: Final = """
INSERT INTO integrations_rulehealth AS health (rule_id, failing_since, warned_at, last_error)
SELECT rule.id, told.since, NULL, told.error
FROM unnest(%(rules)s::bigint[], %(since)s::timestamptz[], %(errors)s::text[]) AS told (rule_id, since, error)
JOIN integrations_integrationrule AS rule ON rule.id = told.rule_id
ORDER BY rule.id
FOR KEY SHARE OF rule
ON CONFLICT (rule_id) DO UPDATE
SET failing_since = coalesce(health.failing_since, excluded.failing_since), last_error = excluded.last_error
WHERE health.failing_since IS NULL OR health.last_error <> excluded.last_error
"""


def _fail(failing: Sequence[Observed]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            START_FAILING,
            {
                "rules": [one.rule_id for one in failing],
                "since": [one.failed_at for one in failing],
                "errors": [one.error for one in failing],
            },
        )


def _recover(rule_ids: Sequence[int], now: datetime) -> None:
    ended = RuleHealth.objects.filter(rule_id__in=rule_ids, failing_since__isnull=False).order_by("rule_id")
    for rule_id in list(ended.values_list("rule_id", flat=True)):
        with transaction.atomic():
            health = _locked(rule_id)
            if health is None or health.failing_since is None:
                continue
            RuleHealth.objects.filter(pk=rule_id).update(failing_since=None, warned_at=None)
            if health.warned_at is not None:
                notices.withdraw(_failing_title(health.rule), rule_id=rule_id, now=now)
                text = f"Its calls had failed since {_moment(health.failing_since)}."
                title = f"{health.rule.name} answers again"
                notices.write(title, text=text, level=NoticeLevel.INFO, rule_id=rule_id, now=now)


def _locked(rule_id: int) -> RuleHealth | None:
    """Lock a rule and then its health, in the order in which a rule's removal locks them, and return the health."""
    if not IntegrationRule.objects.select_for_update(no_key=True).filter(pk=rule_id).exists():
        return None
    return RuleHealth.objects.select_for_update(of=("self",)).select_related("rule").filter(pk=rule_id).first()


def _judge(health: RuleHealth, now: datetime) -> None:
    """Warn about a rule that has failed for long enough, or turn it off. One of the workers does it."""
    rule = health.rule
    since = _failing_since(health)
    if since is None or not rule.enabled:
        return
    warn_seconds = RULE_WARN_BEFORE_SECONDS if decides(rule) else settings.RULE_WARN_SECONDS
    if now - since >= timedelta(seconds=settings.RULE_DISABLE_SECONDS) and not decides(rule):
        _turn_off(rule, f"every call has failed since {_moment(since)}", now, error=health.last_error)
    elif now - since >= timedelta(seconds=warn_seconds) and (health.warned_at is None or health.warned_at < since):
        _warn(health, since, now)


def _failing_since(health: RuleHealth) -> datetime | None:
    """Return since when a rule has failed since its last change, which includes turning it on."""
    return None if health.failing_since is None else max(health.failing_since, health.rule.changed_at)


def _warn(health: RuleHealth, since: datetime, now: datetime) -> None:
    rule = health.rule
    with transaction.atomic():
        current = _locked(rule.pk)
        if current is None or current.failing_since is None or current.warned_at != health.warned_at:
            return  # another worker was quicker, or the rule works again
        RuleHealth.objects.filter(pk=rule.pk).update(warned_at=now)
        if decides(rule):
            text = _policy(rule)
        else:
            off_at = since + timedelta(seconds=settings.RULE_DISABLE_SECONDS)
            text = f"It is turned off at {_moment(off_at)} unless a call succeeds. What it is owed waits until then."
        text = f"Since {_moment(since)}, the last one with: {health.last_error}\n\n{text}"
        level = NoticeLevel.ERROR if decides(rule) else NoticeLevel.WARNING
        notices.write(_failing_title(rule), text=text, level=level, rule_id=rule.pk, now=now)


def _turn_off(rule: IntegrationRule, why: str, now: datetime, *, error: str = "") -> None:
    with transaction.atomic():
        current = IntegrationRule.objects.select_for_update().filter(pk=rule.pk, enabled=True).first()
        if current is None or current.changed_at != rule.changed_at:
            return  # another worker was first, or the rule was just changed
        rules.switch(current.name, enabled=False, now=now)
        notices.withdraw(_failing_title(rule), rule_id=rule.pk, now=now)
        text = "What it is owed is kept, and goes out when you turn it on again."
        if error:
            text = f"The last call failed with: {error}\n\n{text}"
        title = f"{rule.name} was turned off: {why}"
        notices.write(title, text=text, level=NoticeLevel.ERROR, rule_id=rule.pk, now=now)


def _notify_dead_letters(rule_id: int, now: datetime) -> None:
    rule = IntegrationRule.objects.filter(pk=rule_id).first()
    if rule is not None and not decides(rule):  # a question whose deadline has passed is no loss of an event
        text = "Deliveries were given up after all their attempts. They are kept, and can be replayed in order."
        notices.write(f"{rule.name} has dead letters", text=text, rule_id=rule_id, now=now)


def _failing_title(rule: IntegrationRule) -> str:
    return f"{rule.name}: every call fails"


def _policy(rule: IntegrationRule) -> str:
    policy = AtDeadline(rule.at_deadline)
    return f"Messages wait for this rule, and are then treated as it says for the deadline: {policy.label}."


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
