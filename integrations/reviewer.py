"""Rules before publish, as one stage of the review: each is asked in its order, its verdict comes later."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import msgspec
from django.conf import settings
from django.utils import timezone

from integrations import outbox, rule_book, rule_filters
from integrations.models import IntegrationRule
from rooms.review import Action, Deferral, Submission, Verdict
from rooms.wire import Message, to_json_shape

NAME = "integrations"
STEP_PREFIX = "rule-"


def step_of(rule_id: int) -> str:
    """Return the step under which a message waits for a rule."""
    return f"{STEP_PREFIX}{rule_id}"


def awaiting_of(rule_id: int) -> str:
    """Return what a message's `awaiting` is while it waits for a rule."""
    return f"{NAME}:{step_of(rule_id)}"


class WebhookReviewer:
    """A rooms.review.Reviewer: defers a message to the next rule that concerns its room."""

    name = NAME

    def review(self, submissions: Sequence[Submission]) -> Sequence[Verdict | Deferral | None]:
        """Answer each submission with the deferral to its next rule, or None after the last."""
        chain = rule_book.read().before
        return [self._next(submission, chain) if chain else None for submission in submissions]

    def defer(self, deferred: Sequence[tuple[int, Submission, Deferral]]) -> None:
        """Write the deliveries that ask for the verdicts."""
        now = timezone.now()
        outbox.owe(
            [
                outbox.Debt(
                    rule_id=int(deferral.step.removeprefix(STEP_PREFIX)),
                    room_id=submission.room_id,
                    message_id=pk,
                    payload=payload_of(submission),
                    deadline=now + deferral.budget,
                )
                for pk, submission, deferral in deferred
            ],
            now=now,
        )

    def _next(self, submission: Submission, chain: Sequence[IntegrationRule]) -> Deferral | None:
        # Disabled rules keep their place in the chain: a message that passed one goes on after it. Where the rule
        # was removed, the chain starts again: asking twice is safe, skipping is not.
        passed = next((i for i, rule in enumerate(chain) if step_of(rule.pk) == submission.passed), -1)
        for rule in chain[passed + 1 :]:
            if rule.enabled and rule_filters.matches(rule.room_filter, submission.room):
                return Deferral(
                    step=step_of(rule.pk),
                    budget=timedelta(seconds=rule.budget_seconds or settings.REVIEW_DEADLINE_SECONDS),
                    at_deadline=Action(rule.at_deadline),
                )
        return None


def payload_of(submission: Submission) -> str:
    """Return the public JSON of a message that is not published yet."""
    content = submission.content
    message = Message(
        id=submission.message_id,
        client_id=submission.client_id,
        connection_id=submission.connection_id,
        name=content.name,
        data=content.data,
        encoding=content.encoding,
        extras=content.extras,
        timestamp=submission.accepted_ms,
    )
    return msgspec.json.encode(to_json_shape(message)).decode()
