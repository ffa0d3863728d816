"""A shadow rule beside the one that decides: how often they agree, and where they do not."""

from __future__ import annotations

from typing import Any

import pytest

from integrations.models import Delivery, DeliveryState, IntegrationRule
from integrations.monitoring.comparisons import compare
from integrations.wire.verdicts import as_text
from rooms.log.content import Content
from rooms.models import Message, Room
from rooms.review.contract import Verdict, VerdictAction
from tests.integrations.world import add_room, add_rule, now, publish

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("webhooks_only")]


@pytest.fixture
def main() -> IntegrationRule:
    return add_rule(when="before", room_filter="^nowhere$")


@pytest.fixture
def shadow(main: IntegrationRule) -> IntegrationRule:
    rule = add_rule(when="before", room_filter="^nowhere$")
    IntegrationRule.objects.filter(pk=rule.pk).update(shadow_of=main)
    rule.refresh_from_db()
    return rule


@pytest.fixture
def room() -> Room:
    return add_room()


def say(action: VerdictAction, text: str = "", **more: Any) -> str:
    content = Content(name="chat", text=text) if action is VerdictAction.REPLACE else None
    return as_text(Verdict(action=action, content=content, **more))


def ask(rule: IntegrationRule, message: Message, answer: str, *, is_shadow: bool, **more: Any) -> Delivery:
    return Delivery.objects.create(
        rule=rule, room=message.room, message=message, webhook_id="w", payload="{}", answer=answer,
        due_at=now(), created_at=now(), deadline=None if is_shadow else now(),
        **({"state": DeliveryState.DELIVERED, "finished_at": now()} | more),
    )  # fmt: skip


def both_said(room: Room, main: IntegrationRule, shadow: IntegrationRule, first: str, second: str) -> Message:
    """A message of which the two rules said this."""
    publish(room, f"text {Message.objects.count()}")
    message = Message.objects.select_related("room").latest("id")
    ask(main, message, first, is_shadow=False)
    ask(shadow, message, second, is_shadow=True)
    return message


def test_equal_actions_agree_whatever_their_reasons(room: Room, main: IntegrationRule, shadow: IntegrationRule) -> None:
    both_said(room, main, shadow, say(VerdictAction.PUBLISH), say(VerdictAction.PUBLISH))
    both_said(room, main, shadow, say(VerdictAction.REJECT, reason="rude"), say(VerdictAction.REJECT, reason="spam"))
    both_said(
        room, main, shadow, say(VerdictAction.REPLACE, "***", reason="a"), say(VerdictAction.REPLACE, "***", reason="b")
    )
    found = compare(shadow)

    assert (found.compared, found.agreed, found.unanswered, found.rewritten) == (3, 3, 0, 0)
    assert found.agreement == 1.0
    assert found.differences == []


def test_where_they_differ_is_shown_the_newest_first(
    room: Room, main: IntegrationRule, shadow: IntegrationRule
) -> None:
    older = both_said(room, main, shadow, say(VerdictAction.PUBLISH), say(VerdictAction.REJECT, reason="rude"))
    both_said(room, main, shadow, say(VerdictAction.HOLD), say(VerdictAction.HOLD))
    newer = both_said(room, main, shadow, say(VerdictAction.REPLACE, "a"), say(VerdictAction.REPLACE, "b"))
    found = compare(shadow)

    assert (found.compared, found.agreed, found.rewritten) == (3, 1, 1)
    assert found.actions == {("publish", "reject"): 1, ("hold", "hold"): 1, ("replace", "replace"): 1}
    assert [one.message_id for one in found.differences] == [newer.pk, older.pk]
    assert (found.differences[1].text, found.differences[1].room, found.differences[1].author) == (
        older.text, "lobby", "alice",
    )  # fmt: skip
    assert (found.differences[1].shadow.action, found.differences[1].shadow.reason) == ("reject", "rude")


def test_a_rule_that_gave_no_verdict_neither_agrees_nor_disagrees(
    room: Room, main: IntegrationRule, shadow: IntegrationRule
) -> None:
    both_said(room, main, shadow, say(VerdictAction.PUBLISH), "")
    both_said(room, main, shadow, "", say(VerdictAction.PUBLISH))
    both_said(room, main, shadow, "", "")
    both_said(room, main, shadow, say(VerdictAction.PUBLISH), say(VerdictAction.PUBLISH))
    found = compare(shadow)

    assert (found.compared, found.agreed, found.unanswered, found.agreement) == (4, 1, 3, 1.0)
    assert len(found.differences) == 2


def test_what_one_of_them_still_owes_is_left_out(room: Room, main: IntegrationRule, shadow: IntegrationRule) -> None:
    publish(room, "a")
    message = Message.objects.select_related("room").get()
    ask(main, message, say(VerdictAction.PUBLISH), is_shadow=False)
    ask(shadow, message, "", is_shadow=True, state=DeliveryState.PENDING, finished_at=None)
    found = compare(shadow)

    assert (found.compared, found.agreement) == (0, None)


def test_a_long_comparison_is_cut(
    room: Room, main: IntegrationRule, shadow: IntegrationRule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("integrations.monitoring.comparisons.COMPARED", 2)
    monkeypatch.setattr("integrations.monitoring.comparisons.SHOWN", 1)
    for _ in range(4):
        both_said(room, main, shadow, say(VerdictAction.PUBLISH), say(VerdictAction.REJECT))
    found = compare(shadow)

    assert (found.compared, found.actions) == (2, {("publish", "reject"): 2})
    assert len(found.differences) == 1
