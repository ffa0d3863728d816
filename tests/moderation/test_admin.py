"""Alice moderates, Vera may only look, Bob is no staff, Charlie is nobody."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from moderation import word_rules
from moderation.models import WordRule
from rooms.models import Message, Room, Status
from rooms.publishing.accept import accept
from rooms.review import pipeline
from rooms.review.contract import Decision, Verdict, VerdictAction
from rooms.review.decide import decide
from tests.admin_pages import act, sign_in, told
from tests.rooms.conftest import draft

HELD = "/admin/moderation/heldmessage/"
RULES = "/admin/moderation/wordrule/"
MODERATE = ("moderation.view_heldmessage", "moderation.decide_heldmessage", "rooms.view_message")
WRITE = tuple(f"moderation.{verb}_wordrule" for verb in ("view", "add", "change", "delete"))

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def local_reviewer_only(settings: Any) -> Iterator[None]:
    settings.ROOMS_REVIEWERS = ["moderation.reviewer.LocalReviewer"]
    pipeline.reviewers.cache_clear()
    yield
    pipeline.reviewers.cache_clear()


@pytest.fixture
def alice() -> Client:
    return sign_in("alice", *MODERATE, *WRITE)


@pytest.fixture
def lobby() -> Room:
    word_rules.store(WordRule(name="Roots", pattern="turnip*", action="hold"), by="alice", now=timezone.now())
    return Room.objects.create(name="lobby")


def publish(room: Room, text: str, author: str = "bob") -> Message:
    (outcome,) = accept([draft(room, text, author=author)], now=timezone.now())
    return Message.objects.get(pk=outcome.message)


# --- Held messages ----------------------------------------------------------------------------------------


def test_the_queue_shows_what_is_held_and_why_the_oldest_first(lobby: Room, alice: Client) -> None:
    first, second = publish(lobby, "turnips!"), publish(lobby, "my turnip")
    publish(lobby, "hello")
    page = alice.get(HELD)
    assert [message.pk for message in page.context["cl"].result_list] == [first.pk, second.pk]
    assert "Held by the word rule “Roots”." in page.content.decode()


def test_publishing_lets_held_messages_go_and_says_how_many(lobby: Room, alice: Client) -> None:
    held = [publish(lobby, "turnip one"), publish(lobby, "turnip two", author="carol")]
    page = act(alice, HELD, "publish", *(message.pk for message in held))
    assert told(page) == ["2 messages published."]
    for serial, message in enumerate(held, start=1):
        message.refresh_from_db()
        assert (message.status, message.serial) == (Status.PUBLISHED, serial)
        assert [word.step for word in message.verdicts.order_by("id")] == ["moderation", "moderator alice"]


def test_rejecting_tells_the_author_the_moderators_reason(lobby: Room, alice: Client) -> None:
    held = publish(lobby, "turnip")
    page = act(alice, HELD, "reject", held.pk, reason="Roots belong in the garden.")
    assert told(page) == ["1 message rejected."]
    held.refresh_from_db()
    assert (held.status, held.error_code, held.reason) == (Status.REJECTED, 42213, "Roots belong in the garden.")


def test_a_rejection_without_a_reason_still_has_one(lobby: Room, alice: Client) -> None:
    held = publish(lobby, "turnip")
    act(alice, HELD, "reject", held.pk, reason="  ")
    held.refresh_from_db()
    assert held.reason


def test_what_a_colleague_decided_meanwhile_is_not_decided_again(
    lobby: Room, alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = publish(lobby, "turnip")
    verdict = Decision(
        message=held.pk, awaiting="moderator", verdict=Verdict(action=VerdictAction.REJECT), by="moderator dora"
    )

    def choose_while_dora_decides(request: Any, rows: Any) -> list[int]:
        chosen = list(rows.values_list("pk", flat=True))
        decide([verdict], now=timezone.now())
        return chosen

    # The race: dora's verdict commits after alice's page chose the row and before her verdict.
    monkeypatch.setattr("moderation.admin.first", choose_while_dora_decides)
    page = act(alice, HELD, "publish", held.pk)
    assert told(page) == ["1 message left as before: somebody else decided first."]
    held.refresh_from_db()
    assert held.status == Status.REJECTED


def test_the_page_of_a_held_message_offers_both_decisions(lobby: Room, alice: Client) -> None:
    held = publish(lobby, "turnip")
    page = alice.get(f"{HELD}{held.pk}/change/")
    assert [choice["label"] for choice in page.context["choices"]] == ["Publish", "Reject"]
    assert page.context["journey"][-1].title == "Waits for a moderator"


def test_only_moderators_decide(lobby: Room) -> None:
    held = publish(lobby, "turnip")
    vera = sign_in("vera", "moderation.view_heldmessage")
    assert vera.get(HELD).status_code == 200
    assert not vera.get(f"{HELD}{held.pk}/change/").context["choices"]
    for client in (vera, sign_in("bob", *MODERATE, is_staff=False), Client(), sign_in("mallory")):
        act(client, HELD, "publish", held.pk)
    held.refresh_from_db()
    assert held.status == Status.HELD


@pytest.mark.parametrize("url", [HELD, RULES, f"{RULES}add/"])
def test_bob_and_charlie_see_nothing(url: str) -> None:
    for client in (sign_in("bob", *MODERATE, *WRITE, is_staff=False), Client()):
        assert client.get(url).status_code == 302
    assert sign_in("mallory").get(url).status_code == 403


# --- Word rules -------------------------------------------------------------------------------------------


def fields(**changed: str) -> dict[str, str]:
    defaults = {"name": "Cabbage", "kind": "word", "pattern": "cabbage", "action": "mask", "enabled": "on"}
    return {**defaults, "reason": "", "room_filter": "", **changed}


def test_a_rule_made_here_counts_for_the_next_message(alice: Client) -> None:
    room = Room.objects.create(name="garden")
    assert alice.post(f"{RULES}add/", fields()).status_code == 302
    assert publish(room, "I like cabbage").text == "I like *******"
    assert WordRule.objects.get().changed_by == "alice"


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"kind": "regex", "pattern": "("}, "no regular expression"),
        ({"room_filter": "["}, "no regular expression"),
        ({"kind": "regex", "pattern": "x*"}, "every message"),
        ({"pattern": "a" * 501}, "at most 500"),
    ],
)
def test_a_rule_that_cannot_work_is_refused_with_the_reason(changed: dict[str, str], says: str, alice: Client) -> None:
    page = alice.post(f"{RULES}add/", fields(**changed))
    assert page.status_code == 200
    assert says in page.content.decode()
    assert not WordRule.objects.exists()


def test_rules_are_turned_off_and_on(lobby: Room, alice: Client) -> None:
    rule = WordRule.objects.get()
    assert told(act(alice, RULES, "disable", rule.pk)) == ["1 rule turned off, from the next message on."]
    assert publish(lobby, "turnip").status == Status.PUBLISHED
    act(alice, RULES, "enable", rule.pk)
    assert publish(lobby, "turnip").status == Status.HELD


def test_there_is_a_bound_to_enabled_rules(alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_rules, "MAX_ENABLED", 1)
    alice.post(f"{RULES}add/", fields())
    page = alice.post(f"{RULES}add/", fields(name="second"))
    assert "no more are matched" in page.content.decode()
    alice.post(f"{RULES}add/", {key: value for key, value in fields(name="off").items() if key != "enabled"})
    off = WordRule.objects.get(name="off")
    assert told(act(alice, RULES, "enable", off.pk))[-1] == "Not changed: at most 1 rules are matched."


def test_patterns_are_escaped(alice: Client) -> None:
    alice.post(f"{RULES}add/", fields(pattern="<img src=x>"))
    assert b"<img src=x>" not in alice.get(RULES).content
