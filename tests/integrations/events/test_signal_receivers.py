"""What rules after publish are owed: each event that the log tells of, once, with all that the event said."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from integrations.events import signal_receivers
from integrations.models import Delivery, EventKind, When
from integrations.review.reviewer import awaiting_of
from integrations.wire import events
from integrations.wire.verdicts import read_payload
from rooms.log import amend, message_queries, room_locks
from rooms.log.content import Content
from rooms.models import Message
from rooms.review import decide
from rooms.review.contract import Decision, Verdict, VerdictAction
from rooms.review.endings import Ending, make
from tests.integrations.world import add_room, add_rule, now, publish

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("webhooks_only")]


def owed() -> list[tuple[str, Any]]:
    """What is owed after publish, in order, and nothing afterwards."""
    deliveries = Delivery.objects.filter(rule__when=When.AFTER).order_by("id")
    found = [
        (one.event, msgspec.json.decode(msgspec.json.encode(events.fields_of(one.event, one.payload))))
        for one in deliveries
    ]
    deliveries.delete()
    return found


def judge(verdict: Verdict) -> None:
    message = Message.objects.get()
    decide.decide([Decision(message=message.pk, awaiting=message.awaiting, verdict=verdict)], now=now())


def test_the_kinds_of_events_are_those_of_the_rules() -> None:
    assert set(events.SOURCES) == set(EventKind.values)
    assert set(EventKind.values) > events.OF_MESSAGES


def test_every_kind_of_event_about_a_message_is_owed_to_the_rule_that_hears_of_it() -> None:
    for event in ("channel.message", "channel.message.updated", "channel.message.deleted", "channel.message.accepted"):
        add_rule(events=[event], name=event)
    publish(add_room(), "hello")
    pk = Message.objects.get().pk

    assert [(event, fields["messages"][0]["data"]) for event, fields in owed()] == [
        ("channel.message.accepted", "hello"), ("channel.message", "hello"),
    ]  # fmt: skip
    amend.edit(pk, "goodbye", by="mod", now=now())
    ((event, edited),) = owed()
    assert (event, edited["by"], edited["messages"][0]["data"]) == ("channel.message.updated", "mod", "goodbye")
    assert edited["messages"][0]["action"] == 1
    amend.hide([pk], by="other mod", now=now())
    ((event, deleted),) = owed()
    assert (event, deleted["by"]) == ("channel.message.deleted", "other mod")
    assert "data" not in deleted["messages"][0] and deleted["messages"][0]["action"] == 2


def test_a_message_that_is_refused_was_accepted_and_reviewed_and_never_published() -> None:
    add_rule(events=["channel.message.accepted", "channel.message", "channel.message.reviewed"])
    before = add_rule(when="before")
    publish(add_room(), "hello")
    assert [event for event, _ in owed()] == ["channel.message.accepted"]

    judge(Verdict(action=VerdictAction.REJECT, code=42211, reason="no", detail={"word": "hello"}))

    ((event, fields),) = owed()
    review = fields["review"]
    assert (event, review["outcome"], review["by"]) == ("channel.message.reviewed", "rejected", awaiting_of(before.pk))
    assert (review["reason"], review["code"], review["detail"]) == ("no", 42211, {"word": "hello"})
    assert fields["messages"][0]["data"] == "hello" and "serial" not in fields["messages"][0]


def test_each_end_of_a_review_is_told_though_it_is_about_the_same_message() -> None:
    add_rule(events=["channel.message.reviewed"])
    add_rule(when="before")
    publish(add_room(), "hello")

    judge(Verdict(action=VerdictAction.HOLD))
    judge(Verdict(action=VerdictAction.REPLACE, content=Content(text="better")))

    told = owed()
    assert [fields["review"]["outcome"] for _, fields in told] == ["held", "published"]
    assert told[1][1]["messages"][0]["data"] == "better"
    assert told[1][1]["messages"][0]["serial"]


def test_two_ends_of_a_review_in_one_moment_are_both_told() -> None:
    add_rule(events=["channel.message.reviewed"])
    room = add_room()
    publish(room, "hello")
    rooms = room_locks.lock_rooms([room.pk])
    (row,) = message_queries.find([Message.objects.get().pk]).values()
    verdict = Verdict(action=VerdictAction.REJECT, reason="no")
    ends = [make(row, rooms[room.pk], "late", verdict, kind) for kind in (Ending.RETRACTED, Ending.RESTORED)]

    signal_receivers.on_reviewed(None, ended=ends, rooms=rooms)

    assert [fields["review"]["outcome"] for _, fields in owed()] == ["retracted", "restored"]


def test_a_rule_hears_of_the_authors_of_its_filter_and_of_nobody_it_does_not_know() -> None:
    add_rule(author_filter="^al")
    room = add_room()
    publish(room, "one", author="alice")
    publish(room, "two", author="bob")

    assert [fields["messages"][0]["data"] for _, fields in owed()] == ["one"]


def test_all_events_of_a_message_are_in_a_sample_or_none() -> None:
    add_rule(events=["channel.message.accepted", "channel.message"], sample_percent=50)
    publish(add_room(), *map(str, range(40)))

    told = owed()
    accepted = [fields["messages"][0]["id"] for event, fields in told if event == "channel.message.accepted"]
    published = [fields["messages"][0]["id"] for event, fields in told if event == "channel.message"]
    assert accepted == published and 5 < len(accepted) < 35


def test_an_unordered_rule_is_owed_outside_of_lanes_and_a_batch_waits_as_it_asks() -> None:
    add_rule(ordered=False, batched=True, batch_wait_ms=60_000)
    publish(add_room(), "hello")

    (one,) = Delivery.objects.all()
    assert not one.in_lane
    assert (one.due_at - one.created_at).total_seconds() == 60


def test_what_is_sent_of_a_published_message_can_be_read_as_one() -> None:
    add_rule()
    publish(add_room(), "hello")

    message = read_payload(Delivery.objects.get().payload)
    assert (message.data, message.client_id, message.action) == ("hello", "alice", 0)


def test_what_no_rule_hears_of_is_owed_to_nobody() -> None:
    add_rule(events=["channel.occupancy"])
    room = add_room()
    publish(room, "hello")
    pk = Message.objects.get().pk
    assert owed() == []
    amend.hide([pk], by="mod", now=now())
    assert owed() == []
