"""The reviewer that asks rules before publish: a message waits for one rule after the other, in their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.utils import timezone

from integrations import outbox
from integrations.matching import filters, rule_book
from integrations.matching.rule_book import RuleBook
from integrations.models import AtDeadline, EventKind, IntegrationRule, Trust
from integrations.review import author_trust
from integrations.wire import events
from rooms.log.content import Draft
from rooms.review.contract import AwaitedVerdict, Deferral, Verdict, VerdictAction

NAME = "integrations"
STEP_PREFIX = "rule-"
NO_WAIT = timedelta(0)
# A stand-in is called as a shadow so much later: if it decides as the stand-in meanwhile, that call is not needed.
STAND_IN_WAIT = timedelta(seconds=2)


def step_of(rule_id: int) -> str:
    """Return the step under which a message waits for a rule."""
    return f"{STEP_PREFIX}{rule_id}"


def awaiting_of(rule_id: int) -> str:
    """Return the value of Message.awaiting while a message waits for a rule."""
    return f"{NAME}:{step_of(rule_id)}"


def rule_of(step: str) -> int:
    """Return the id of a step's rule, 0 for no step."""
    return int(step.removeprefix(STEP_PREFIX) or 0)


class WebhookReviewer:
    """A rooms.review.contract.Reviewer that defers each message to the next rule whose filters it passes."""

    name = NAME

    def review(self, drafts: Sequence[Draft]) -> Sequence[Verdict | Deferral | None]:
        """Return for each draft the deferral to its next rule, or None after the last."""
        book = rule_book.read()
        if not book.before:
            return [None] * len(drafts)
        asked = [_next_rule(draft, book) for draft in drafts]
        trusted = _read_trust(list(zip(drafts, asked, strict=True)))
        now = timezone.now()
        return [
            None if rule is None else _deferral(rule, draft, book, trusted, now)
            for draft, rule in zip(drafts, asked, strict=True)
        ]

    def defer(self, awaited: Sequence[AwaitedVerdict]) -> None:
        """Add the deliveries that ask the rules for verdicts, and those to their shadow rules."""
        book, now = rule_book.read(), timezone.now()
        deliveries: list[outbox.NewDelivery] = []
        for one in awaited:
            rule_id, draft = rule_of(one.step), one.draft
            payload = events.draft_payload(draft)
            deliveries.append(_new_delivery(rule_id, one.message, draft, payload, one.deadline))
            deliveries += [
                _new_delivery(shadow.pk, one.message, draft, payload, None, wait=_wait_of(shadow))
                for shadow in book.shadows.get(rule_id, ())
                if _concerns(shadow, draft)
            ]
        outbox.add_deliveries(deliveries, now=now)


def _wait_of(shadow: IntegrationRule) -> timedelta:
    return STAND_IN_WAIT if shadow.stands_in else NO_WAIT


def policy_of(rule: IntegrationRule, author: Trust | None) -> AtDeadline:
    """Return a rule's policy for the deadline, for an author of this trust; None: the policy without exceptions."""
    special = {Trust.NEW: rule.at_deadline_new, Trust.TRUSTED: rule.at_deadline_trusted}
    return AtDeadline((special.get(author, "") if author else "") or rule.at_deadline)


def budget_of(rules: Sequence[IntegrationRule], *, began: datetime, now: datetime) -> timedelta:
    """Return how long a message may wait for the last of `rules`, the ones that it has waited for so far.

    The rules share one budget from `began` on: REVIEW_DEADLINE_SECONDS, or the largest budget of a rule.
    """
    default: float = settings.REVIEW_DEADLINE_SECONDS
    shared = max(default, *(rule.budget_seconds or 0.0 for rule in rules))
    end = min(now + timedelta(seconds=rules[-1].budget_seconds or default), began + timedelta(seconds=shared))
    return max(end - now, timedelta(0))


def _next_rule(draft: Draft, book: RuleBook) -> IntegrationRule | None:
    # Disabled rules keep their place: a message that has passed one goes on after it. If that rule was removed, the
    # message starts with the first again: asking a rule twice is safe, skipping one is not.
    passed = book.place_of(rule_of(draft.passed))
    return next((rule for rule in book.before[passed + 1 :] if rule.enabled and _concerns(rule, draft)), None)


def _concerns(rule: IntegrationRule, draft: Draft) -> bool:
    return filters.lets_pass(rule, room=draft.room, client_id=draft.client_id or "", key=draft.message_id)


def _read_trust(asked: Sequence[tuple[Draft, IntegrationRule | None]]) -> Mapping[str, Trust]:
    """Return the trust of those authors for whom a rule's policy depends on it, with at most one query."""
    return author_trust.read(
        {draft.client_id for draft, rule in asked if rule is not None and draft.client_id and _depends_on_trust(rule)}
    )


def _depends_on_trust(rule: IntegrationRule) -> bool:
    return bool(rule.at_deadline_new or rule.at_deadline_trusted)


def _deferral(
    rule: IntegrationRule, draft: Draft, book: RuleBook, trusted: Mapping[str, Trust], now: datetime
) -> Deferral:
    # An author without a client id counts as new.
    author = trusted.get(draft.client_id or "", Trust.NEW) if _depends_on_trust(rule) else None
    policy = policy_of(rule, author)
    if policy == AtDeadline.RETRY:
        wait = timedelta(seconds=settings.REVIEW_WAIT_SECONDS)
        return Deferral(step=step_of(rule.pk), budget=wait, at_deadline=VerdictAction.HOLD)
    earlier = _earlier(draft, book)
    # A rule with the policy `retry` may let messages wait for long; the rules after it get a whole budget.
    has_waited = any(AtDeadline.RETRY in _policies(one) for one in earlier)
    began = now if has_waited else datetime.fromtimestamp(draft.accepted_ms / 1000, UTC)
    budget = budget_of([*earlier, rule], began=began, now=now)
    return Deferral(step=step_of(rule.pk), budget=budget, at_deadline=VerdictAction(policy))


def _earlier(draft: Draft, book: RuleBook) -> list[IntegrationRule]:
    """Return the rules that a message has waited for, judged by the rules as they are now."""
    if not draft.passed:
        return []
    passed = book.before[: book.place_of(rule_of(draft.passed)) + 1]
    return [rule for rule in passed if rule.enabled and _concerns(rule, draft)]


def _policies(rule: IntegrationRule) -> tuple[str, str, str]:
    return rule.at_deadline, rule.at_deadline_new, rule.at_deadline_trusted


def _new_delivery(
    rule_id: int,
    message_id: int,
    draft: Draft,
    payload: str,
    deadline: datetime | None,
    *,
    wait: timedelta = NO_WAIT,
) -> outbox.NewDelivery:
    return outbox.NewDelivery(
        rule_id=rule_id,
        room_id=draft.room_id,
        message_id=message_id,
        payload=payload,
        event=EventKind.MESSAGE,
        deadline=deadline,
        wait=wait,
    )
