"""Reads the result of a call: what it means for its deliveries and for its target, and how much of it is kept."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

from django.conf import settings

from integrations.egress.answers import Answer, CallFailed
from integrations.models import IntegrationRule, Late, When
from integrations.outbox import retry
from integrations.outbox.conclusions import RESPONSE_KEPT_CHARACTERS, Judge
from integrations.wire import callback_tokens
from integrations.worker.throttle import CallEnd


def judge_of(rule: IntegrationRule, now: datetime, *, has_other: bool = False) -> Judge:
    """Return the Judge of a rule's answers."""
    return Judge(
        has_verdicts=rule.when == When.BEFORE,
        late_counts=rule.late == Late.APPLY,
        now=now,
        max_attempts=settings.DELIVERY_MAX_ATTEMPTS,
        retry_for=timedelta(seconds=settings.DELIVERY_RETRY_SECONDS),
        message_max_bytes=settings.MESSAGE_MAX_BYTES,
        chance=random.uniform,
        has_other=has_other,
    )


def ended_of(came: Answer | CallFailed, *, was_cut: bool) -> CallEnd:
    """Return what the end of a call says about its target."""
    if isinstance(came, CallFailed):
        return CallEnd.UNKNOWN if came.is_final or was_cut else CallEnd.FAILED
    if came.status == 429:
        return CallEnd.TOO_MUCH
    return CallEnd.FAILED if retry.judge(came.status) is retry.StatusMeaning.TEMPORARY else CallEnd.WELL


def kept_of(came: Answer | CallFailed) -> str:
    """Return the beginning of an answer's body, for the attempt in the admin. Callback tokens are hidden."""
    if isinstance(came, CallFailed):
        return ""
    text = came.body[: RESPONSE_KEPT_CHARACTERS * 4].decode(errors="replace")
    return callback_tokens.hide(text).replace("\0", "\ufffd")[:RESPONSE_KEPT_CHARACTERS]
