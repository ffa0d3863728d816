"""Late verdicts of many messages are stored together: their rooms are locked meanwhile."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from integrations import outbox
from integrations.models import Delivery, IntegrationRule
from integrations.review.reviewer import awaiting_of
from rooms.models import Message, Room
from rooms.review import deadlines
from rooms.review.contract import Decision, Verdict, VerdictAction
from tests.integrations.world import add_room, add_rule, now, publish

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("webhooks_only")]


def overdue(rule: IntegrationRule, room: Room, texts: int) -> dict[int, Decision]:
    """Let the deadline decide messages; return late verdicts on them, by delivery."""
    publish(room, *map(str, range(texts)))
    deadlines.expire(now=now() + timedelta(hours=1))
    accept = Verdict(action=VerdictAction.PUBLISH)
    return {
        one.pk: Decision(message=one.message_id or 0, awaiting=awaiting_of(rule.pk), verdict=accept)
        for one in Delivery.objects.filter(rule=rule, answer="")
    }


def test_however_many_they_are_they_need_the_same_statements() -> None:
    rule, room = add_rule(when="before", late="apply", at_deadline="reject"), add_room()
    counts = []
    for texts in (1, 1, 40):  # the first also reads what is kept in memory from then on
        late = overdue(rule, room, texts)
        with CaptureQueriesContext(connection) as queries:
            assert not outbox.overrule(late, now=now()).stale
        counts.append(len(queries))

    assert counts[1] == counts[2]
    assert Message.objects.filter(status="published").count() == 42
    assert all(one.answer.startswith('{"action":"publish"') for one in Delivery.objects.all())
