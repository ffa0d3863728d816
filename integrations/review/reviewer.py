"""Rules before publish, as one stage of the review: each is asked in its order, its verdict comes later."""

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
from rooms.review.contract import Deferral, Verdict, VerdictAction

NAME = "integrations"
STEP_PREFIX = "rule-"
NO_WAIT = timedelta(0)
# A stand-in is asked as a shadow so much later: meanwhile it may be asked in earnest, and then need not be again.
STAND_IN_WAIT = timedelta(seconds=2)


def step_of(rule_id: int) -> str:
    """Return the step under which a message waits for a rule."""
    return f"{STEP_PREFIX}{rule_id}"


def awaiting_of(rule_id: int) -> str:
    """Return what a message's `awaiting` is while it waits for a rule."""
    return f"{NAME}:{step_of(rule_id)}"


def rule_of(step: str) -> int:
    """Return the rule of a step, 0 for no step."""
    return int(step.removeprefix(STEP_PREFIX) or 0)


class WebhookReviewer:
    """A rooms.review.contract.Reviewer: defers a message to the next rule that concerns its room."""

    name = NAME

    def review(self, submissions: Sequence[Draft]) -> Sequence[Verdict | Deferral | None]:
        """Answer each submission with the deferral to its next rule, or None after the last."""
        book = rule_book.read()
        if not book.before:
            return [None] * len(submissions)
        asked = [_next_rule(submission, book) for submission in submissions]
        trusted = _read_trust(list(zip(submissions, asked, strict=True)))
        now = timezone.now()
        return [
            None if rule is None else _deferral(rule, submission, book, trusted, now)
            for submission, rule in zip(submissions, asked, strict=True)
        ]

    def defer(self, deferred: Sequence[tuple[int, Draft, Deferral]]) -> None:
        """Write the deliveries that ask for the verdicts, and those to the shadows of the rules that are asked."""
        book, now = rule_book.read(), timezone.now()
        deliveries: list[outbox.NewDelivery] = []
        for pk, submission, deferral in deferred:
            rule_id = rule_of(deferral.step)
            payload = events.submission_payload(submission)
            deliveries.append(_new_delivery(rule_id, pk, submission, payload, now + deferral.budget))
            deliveries += [
                _new_delivery(
                    shadow.pk, pk, submission, payload, None, wait=STAND_IN_WAIT if shadow.stands_in else NO_WAIT
                )
                for shadow in book.shadows.get(rule_id, ())
                if _concerns(shadow, submission)
            ]
        outbox.add_deliveries(deliveries, now=now)


def policy_of(rule: IntegrationRule, author: Trust | None) -> AtDeadline:
    """Return what a rule's policy for the deadline is for an author; None: one whose trust was not asked."""
    special = {Trust.NEW: rule.at_deadline_new, Trust.TRUSTED: rule.at_deadline_trusted}
    return AtDeadline((special.get(author, "") if author else "") or rule.at_deadline)


def budget_of(rules: Sequence[IntegrationRule], *, began: datetime, now: datetime) -> timedelta:
    """Return how long a message may still wait for the last of the rules that it has met.

    They share one budget from `began` on: REVIEW_DEADLINE_SECONDS, or the largest that one of them has of its own.
    """
    default: float = settings.REVIEW_DEADLINE_SECONDS
    shared = max(default, *(rule.budget_seconds or 0.0 for rule in rules))
    end = min(now + timedelta(seconds=rules[-1].budget_seconds or default), began + timedelta(seconds=shared))
    return max(end - now, timedelta(0))


def _next_rule(submission: Draft, book: RuleBook) -> IntegrationRule | None:
    # Disabled rules keep their place in the chain: a message that passed one goes on after it. Where the rule
    # was removed, the chain starts again: asking twice is safe, skipping is not.
    passed = book.place_of(rule_of(submission.passed))
    return next((rule for rule in book.before[passed + 1 :] if rule.enabled and _concerns(rule, submission)), None)


def _concerns(rule: IntegrationRule, submission: Draft) -> bool:
    return filters.lets_pass(
        rule, room=submission.room, client_id=submission.client_id or "", key=submission.message_id
    )


def _read_trust(asked: Sequence[tuple[Draft, IntegrationRule | None]]) -> Mapping[str, Trust]:
    """Return the trust of the authors on whom a rule's policy depends; one query, or none."""
    return author_trust.read(
        {
            submission.client_id
            for submission, rule in asked
            if rule is not None and submission.client_id and _minds_trust(rule)
        }
    )


def _minds_trust(rule: IntegrationRule) -> bool:
    return bool(rule.at_deadline_new or rule.at_deadline_trusted)


def _deferral(
    rule: IntegrationRule, submission: Draft, book: RuleBook, trusted: Mapping[str, Trust], now: datetime
) -> Deferral:
    # Nobody vouches for an author without a client id.
    author = trusted.get(submission.client_id or "", Trust.NEW) if _minds_trust(rule) else None
    policy = policy_of(rule, author)
    if policy == AtDeadline.RETRY:
        wait = timedelta(seconds=settings.REVIEW_WAIT_SECONDS)
        return Deferral(step=step_of(rule.pk), budget=wait, at_deadline=VerdictAction.HOLD)
    earlier = _earlier(submission, book)
    # The time for which a rule lets messages wait is not counted: they have the whole budget for those after it.
    has_waited = any(AtDeadline.RETRY in _policies(one) for one in earlier)
    began = now if has_waited else datetime.fromtimestamp(submission.accepted_ms / 1000, UTC)
    budget = budget_of([*earlier, rule], began=began, now=now)
    return Deferral(step=step_of(rule.pk), budget=budget, at_deadline=VerdictAction(policy))


def _earlier(submission: Draft, book: RuleBook) -> list[IntegrationRule]:
    """Return the rules that a message has waited for, as far as can be told from the rules as they are now."""
    if not submission.passed:
        return []
    passed = book.before[: book.place_of(rule_of(submission.passed)) + 1]
    return [rule for rule in passed if rule.enabled and _concerns(rule, submission)]


def _policies(rule: IntegrationRule) -> tuple[str, str, str]:
    return rule.at_deadline, rule.at_deadline_new, rule.at_deadline_trusted


def _new_delivery(
    rule_id: int,
    message_id: int,
    submission: Draft,
    payload: str,
    deadline: datetime | None,
    *,
    wait: timedelta = NO_WAIT,
) -> outbox.NewDelivery:
    return outbox.NewDelivery(
        rule_id=rule_id,
        room_id=submission.room_id,
        message_id=message_id,
        payload=payload,
        event=EventKind.MESSAGE,
        deadline=deadline,
        wait=wait,
    )
