"""Rules before publish as a stage of the review: who is asked, for how long, and what the deadline decides."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.matching import filters
from integrations.models import Delivery, IntegrationRule, Trust
from integrations.review import author_trust, reviewer
from integrations.review.orphaned_waits import OrphanedWaits
from integrations.review.reviewer import WebhookReviewer, budget_of, step_of
from integrations.rules import rules
from integrations.wire import events
from rooms.log.content import Content, Draft
from rooms.log.rows import milliseconds
from rooms.models import Message, Status
from rooms.review.contract import Deferral, VerdictAction
from tests.integrations.world import add_room, add_rule, now, publish

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("webhooks_only")]


@pytest.fixture(autouse=True)
def _nobody_is_known() -> None:
    author_trust.known.clear()


def draft(room: str = "lobby", client_id: str | None = "alice", **more: Any) -> Draft:
    return Draft(
        room_id=1, room=room, message_id=more.pop("message_id", "m"), author=f"client:{client_id}",
        client_id=client_id, connection_id="c", content=Content(text="hello"),
        accepted_ms=more.pop("accepted_ms", milliseconds(now())), **more,
    )  # fmt: skip


def asked(*submissions: Draft) -> list[Deferral | None]:
    answers = WebhookReviewer().review(submissions)
    return [answer if isinstance(answer, Deferral) else None for answer in answers]


def step(deferral: Deferral | None) -> str:
    return deferral.step if deferral else ""


def add_message(client_id: str, status: Status = Status.PUBLISHED, *, count: int = 1) -> None:
    room = add_room(f"room of {client_id} {status}")
    Message.objects.bulk_create(
        Message(
            room=room, message_id=f"{client_id}-{number}", author=client_id, client_id=client_id, status=status,
            accepted_at=now(), **({"serial": number, "created_serial": number, "published_at": now()}
            if status == Status.PUBLISHED else {}),
        )
        for number in range(1, count + 1)
    )  # fmt: skip


def test_rules_are_asked_in_their_order_and_each_once() -> None:
    second, first = add_rule(when="before", order=2), add_rule(when="before", order=1)

    assert [step(asked(draft(passed=passed))[0]) for passed in ("", step_of(first.pk), step_of(second.pk))] == [
        step_of(first.pk), step_of(second.pk), "",
    ]  # fmt: skip


def test_a_rule_is_asked_about_the_rooms_and_authors_of_its_filters() -> None:
    rule = add_rule(when="before", room_filter="^public:", author_filter="^guest-")

    assert [
        step(answer)
        for answer in asked(
            draft("public:a", "guest-1"), draft("public:a", "alice"), draft("private", "guest-1"),
            draft("public:a", None),
        )
    ] == [step_of(rule.pk), "", "", ""]  # fmt: skip


@given(percent=st.floats(0.1, 100), rule=st.integers(1, 100))
def test_a_sample_holds_about_its_share_and_always_the_same(percent: float, rule: int) -> None:
    row = IntegrationRule(pk=rule, sample_percent=percent)
    held = [key for key in map(str, range(500)) if filters.is_sampled(row, key)]

    assert abs(len(held) - 5 * percent) < 75
    assert held == [key for key in map(str, range(500)) if filters.is_sampled(row, key)]


def test_a_shadow_is_owed_what_its_rule_is_asked_and_nobody_waits_for_it() -> None:
    main = add_rule(when="before", budget_seconds=5)
    shadow = add_rule(when="before", shadow_of=main)
    add_rule(when="before", shadow_of=main, room_filter="^elsewhere$")
    publish(add_room(), "hello")

    message = Message.objects.get()
    assert message.awaiting == reviewer.awaiting_of(main.pk)
    owed = {one.rule_id: one for one in Delivery.objects.all()}
    assert set(owed) == {main.pk, shadow.pk}
    assert owed[shadow.pk].payload == owed[main.pk].payload
    assert (owed[shadow.pk].deadline, owed[shadow.pk].in_lane) == (None, False)
    assert owed[main.pk].deadline is not None


def test_the_rules_that_a_message_meets_share_one_budget(settings: Any) -> None:
    settings.REVIEW_DEADLINE_SECONDS = 15.0
    first, second = add_rule(when="before", order=1), add_rule(when="before", order=2)
    add_rule(when="before", room_filter="^elsewhere$", budget_seconds=600, at_deadline="retry")
    accepted = milliseconds(now() - timedelta(seconds=10))

    (fresh,), (later,) = asked(draft()), asked(draft(passed=step_of(first.pk), accepted_ms=accepted))

    assert fresh is not None and 14.9 < fresh.budget.total_seconds() <= 15
    assert later is not None and (later.step, later.at_deadline) == (step_of(second.pk), VerdictAction.REJECT)
    assert 4.9 < later.budget.total_seconds() <= 5


@given(budgets=st.lists(st.none() | st.floats(0.1, 3600), min_size=1, max_size=5), ago=st.floats(0, 7200))
def test_a_budget_is_never_exceeded_by_whatever_rules_in_whatever_time(budgets: list[float | None], ago: float) -> None:
    met = [IntegrationRule(budget_seconds=budget) for budget in budgets]
    moment = now()
    began = moment - timedelta(seconds=ago)

    budget = budget_of(met, began=began, now=moment)

    assert timedelta(0) <= budget <= timedelta(seconds=budgets[-1] or 15.0)
    assert moment + budget <= max(began + timedelta(seconds=max(15.0, *(one or 0.0 for one in budgets))), moment)


def test_a_rule_that_waits_holds_at_last_and_leaves_those_after_it_their_budget(settings: Any) -> None:
    settings.REVIEW_WAIT_SECONDS = 3600.0
    waiting, last = add_rule(when="before", at_deadline="retry"), add_rule(when="before", order=1, budget_seconds=3)
    long_ago = milliseconds(now() - timedelta(seconds=1800))

    (first,), (second,) = asked(draft()), asked(draft(passed=step_of(waiting.pk), accepted_ms=long_ago))

    assert first == Deferral(step=step_of(waiting.pk), budget=timedelta(hours=1), at_deadline=VerdictAction.HOLD)
    assert second == Deferral(step=step_of(last.pk), budget=timedelta(seconds=3), at_deadline=VerdictAction.REJECT)


def test_the_policy_for_the_deadline_goes_by_the_authors_trust(settings: Any, django_assert_num_queries: Any) -> None:
    settings.TRUST_KNOWN_MESSAGES = 2
    add_rule(when="before", at_deadline="hold", at_deadline_new="reject", at_deadline_trusted="publish")
    add_message("regular", count=2)
    add_message("beginner")
    add_message("refused", Status.REJECTED, count=5)
    author_trust.set_trust("friend", Trust.TRUSTED, now=now())
    author_trust.set_trust("regular2", Trust.KNOWN, now=now())

    authors = ("regular", "beginner", "refused", "friend", "regular2", None)
    found = asked(*(draft(client_id=author) for author in authors))

    assert [deferral.at_deadline for deferral in found if deferral] == [
        VerdictAction.HOLD,
        VerdictAction.REJECT,
        VerdictAction.REJECT,
        VerdictAction.PUBLISH,
        VerdictAction.HOLD,
        VerdictAction.REJECT,
    ]
    with django_assert_num_queries(2):  # the rules' version, and all authors
        asked(*(draft(client_id=author) for author in authors))


def test_a_moderators_word_counts_for_the_next_message_and_can_be_taken_back(settings: Any) -> None:
    settings.TRUST_KNOWN_MESSAGES = 1
    add_message("alice")

    assert author_trust.read(["alice"]) == {"alice": Trust.KNOWN}
    author_trust.set_trust("alice", Trust.NEW, now=now())
    assert author_trust.read(["alice"]) == {"alice": Trust.NEW}
    author_trust.set_trust("alice", Trust.TRUSTED, now=now())
    assert author_trust.read(["alice", "bob"]) == {"alice": Trust.TRUSTED, "bob": Trust.NEW}
    author_trust.set_trust("alice", None, now=now())
    assert author_trust.read(["alice"]) == {"alice": Trust.KNOWN}


def test_trust_that_no_rule_minds_is_not_asked_for(django_assert_num_queries: Any) -> None:
    add_rule(when="before")
    asked(draft())

    with django_assert_num_queries(1):
        assert asked(draft())[0] is not None


@pytest.mark.parametrize("change", ["switched off", "made a shadow", "removed"])
def test_a_rule_that_stops_deciding_ends_the_waits_for_it(change: str) -> None:
    rule, other = add_rule(when="before", at_deadline="retry"), add_rule(when="before", room_filter="^elsewhere$")
    publish(add_room(), "hello")
    moment = now()

    if change == "switched off":
        rules.switch(rule.name, enabled=False, now=moment)
    elif change == "made a shadow":
        rules.edit(rule.name, replace(rules.spec_of(rule), shadow_of=other), now=moment)
    else:
        rules.remove(rule.name, now=moment)

    message = Message.objects.get()
    assert message.status == Status.ACCEPTED and message.deadline is not None and message.deadline <= moment


def test_who_was_asked_by_a_transaction_that_began_before_is_found_at_the_second_look() -> None:
    rule = add_rule(when="before", at_deadline="retry")
    publish(add_room(), "hello")
    sweeper = OrphanedWaits()
    assert [sweeper.sweep(), sweeper.sweep()] == [0, 0]
    IntegrationRule.objects.filter(pk=rule.pk).update(enabled=False)

    assert [sweeper.sweep(), sweeper.sweep(), sweeper.sweep()] == [0, 1, 0]


def test_what_a_rule_is_sent_is_the_message_as_the_rule_before_it_left_it() -> None:
    changed = msgspec.structs.replace(draft(), content=Content(text="changed", name="chat"))

    assert '"data":"changed"' in events.draft_payload(changed)


def test_the_delivery_that_asks_for_a_verdict_has_the_messages_own_deadline() -> None:
    """Accepting may wait for a room's lock: the moment at which the delivery is written is a later one."""
    add_rule(when="before")
    publish(add_room(), "hello")
    assert Delivery.objects.get().deadline == Message.objects.get().deadline
