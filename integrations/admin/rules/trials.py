"""Sends a test event to a rule's target at once, and shows request and answer. Nothing is stored."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
from django import forms
from django.conf import settings

from integrations.admin.deliveries import request_view, verdict_view
from integrations.admin.deliveries.request_view import RequestView
from integrations.admin.deliveries.verdict_view import VerdictView
from integrations.egress import answers
from integrations.egress.answers import Answer, CallFailed
from integrations.egress.outgoing import Outgoing
from integrations.models import EventKind, IntegrationRule, When
from integrations.outbox.conclusions import ClaimedDelivery
from integrations.rules import rules
from integrations.wire import verdicts
from integrations.wire.verdicts import AskedMessage, BadAnswer
from integrations.worker import targets
from integrations.worker.worker import read_app_id
from rooms.admin.waterfall import duration

MAX_SECONDS = 10.0  # a person waits, and a thread too
NO_MESSAGE = 0  # no primary key, so that a verdict by callback finds no message
SHOWN_CHARACTERS = 8_000


class TestEventForm(forms.Form):
    """The form of a test event."""

    __test__ = False

    event = forms.ChoiceField(choices=EventKind.choices)
    room = forms.CharField(initial="lobby", max_length=255)
    author = forms.CharField(initial="test", max_length=255, label="Client id")
    text = forms.CharField(
        initial="I don't like how cabbage tastes", max_length=4000, widget=forms.Textarea(attrs={"rows": 2})
    )

    def __init__(self, rule: IntegrationRule, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        event = self.fields["event"]
        assert isinstance(event, forms.ChoiceField)
        event.choices = [choice for choice in EventKind.choices if choice[0] in rule.events]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """The result of a test event."""

    request: RequestView
    is_good: bool
    status: int | None
    took: str
    answer: str = ""
    problem: str = ""
    verdict: VerdictView | None = None
    is_without_verdict: bool = False


def trial_delivery(rule: IntegrationRule, said: dict[str, str], now: datetime) -> ClaimedDelivery:
    """Return a delivery for a test event, which is not in the table."""
    number = secrets.token_hex(6)
    return ClaimedDelivery(
        id=0,
        rule_id=rule.pk,
        room_id=0,
        message_id=NO_MESSAGE,
        event=said["event"],
        serial=1,
        webhook_id=f"msg_test{number}",
        payload=_payload(said, f"test-{number}:0", now),
        attempt=1,
        tries=1,
        created_at=now,
        deadline=now + timedelta(seconds=MAX_SECONDS) if rule.when == When.BEFORE and not rule.is_shadow else None,
        room=said["room"],
        epoch="test0000",
    )


def send(rule: IntegrationRule, said: dict[str, str], *, now: datetime, may_call: bool) -> Trial:
    """Call a rule's target with a test event, in at most MAX_SECONDS, and return the result."""
    delivery = trial_delivery(rule, said, now)
    seen = request_view.of_claimed(rule, delivery, now=now, may_call=may_call)
    timeout = min(MAX_SECONDS, rule.timeout_seconds or settings.DELIVERY_TIMEOUT_SECONDS)
    came, took_ms = asyncio.run(_call(rule, delivery, now, timeout, read_app_id()))
    took = duration(took_ms)
    if isinstance(came, CallFailed):
        return Trial(request=seen, is_good=False, status=None, took=took, problem=str(came))
    return _judged(rule, delivery, came, seen, took)


async def _call(
    rule: IntegrationRule, delivery: ClaimedDelivery, now: datetime, timeout: float, app_id: str
) -> tuple[Answer | CallFailed, float]:
    """Make the call within `timeout` seconds. Return its answer or failure, and its duration in milliseconds."""
    called = targets.Targets(Outgoing(allowed=rules.allow_list(), max_connections=1))
    began = time.monotonic()
    try:
        came: Answer | CallFailed = await called.call(rule, [delivery], app_id=app_id, now=now, timeout=timeout)
    except CallFailed as error:
        came = error
    finally:
        took_ms = (time.monotonic() - began) * 1000
        await called.close()
    return came, took_ms


def _judged(rule: IntegrationRule, delivery: ClaimedDelivery, answer: Answer, seen: RequestView, took: str) -> Trial:
    """Return the result of a call with an answer, including the verdict that it would have given."""
    is_good = 200 <= answer.status < 300 and not answer.problem
    problem = "" if is_good else answers.explain(answer)
    verdict: VerdictView | None = None
    asks = rule.when == When.BEFORE
    if is_good and asks:
        try:
            ids = frozenset({delivery.webhook_id, verdicts.read_payload(delivery.payload).id or ""})
            asked = AskedMessage(key=delivery.id, ids=ids, payload=delivery.payload)
            found = verdicts.parse(answer.body, [asked], max_bytes=settings.MESSAGE_MAX_BYTES).get(delivery.id)
            verdict = verdict_view.of_verdict(found) if found else None
        except BadAnswer as error:
            is_good, problem = False, str(error)
    return Trial(
        request=seen,
        is_good=is_good,
        status=answer.status,
        took=took,
        answer=request_view.pretty(answer.body)[:SHOWN_CHARACTERS],
        problem=problem,
        verdict=verdict,
        is_without_verdict=is_good and asks and verdict is None,
    )


def _payload(said: dict[str, str], message_id: str, now: datetime) -> str:
    """Return the payload of a test event, in the shape of integrations.wire.events."""
    at = int(now.timestamp() * 1000)
    message = {"id": message_id, "clientId": said["author"], "timestamp": at, "name": "chat", "data": said["text"]}
    event = said["event"]
    found: dict[str, Any]
    if event in (EventKind.MESSAGE, EventKind.ACCEPTED):
        found = message
    elif event in (EventKind.OCCUPANCY, EventKind.OPENED, EventKind.CLOSED):
        count = 0 if event == EventKind.CLOSED else 1
        metrics = dict.fromkeys(("connections", "publishers", "subscribers", "presenceConnections"), count)
        found = {"status": {"isActive": count > 0, "occupancy": {"metrics": metrics}}}
    elif event == EventKind.REVIEWED:
        found = {"messages": [message], "review": {"outcome": "published", "by": "test", "at": at}}
    else:
        found = {"messages": [message], "by": "test"}
    return msgspec.json.encode(found).decode()
