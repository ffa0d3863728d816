"""One call answers a raid, and nobody is judged by somebody else's failure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from integrations.worker.verdict_cache import CacheMiss, TextKeys, VerdictCache, text_keys_of
from rooms.log.content import Content
from rooms.protocol.wire import Message
from rooms.review.contract import Verdict, VerdictAction

CHANGED = datetime(2026, 1, 1, tzinfo=UTC)
ACCEPT = Verdict(action=VerdictAction.PUBLISH)
REJECT = Verdict(action=VerdictAction.REJECT, code=42211, reason="no")


def subject(text: str = "raid", *, room_id: int = 1, changed_at: datetime = CHANGED, **message: Any) -> TextKeys:
    said = Message(name="chat", data=text, **message)
    return text_keys_of(said, room_id=room_id, rule_id=1, changed_at=changed_at)


def look(cache: VerdictCache, about: TextKeys, *, now: float = 0.0, after: int = 3) -> Verdict | CacheMiss:
    return cache.look(about, seconds=10.0, after=after, now=now)


def call(cache: VerdictCache, about: TextKeys, verdict: Verdict | None, *, now: float = 0.0) -> None:
    cache.begin(about, now=now)
    cache.end(about, verdict)


def asked(*texts: str, verdict: Verdict = ACCEPT) -> VerdictCache:
    cache = VerdictCache(max_texts=100)
    for text in texts:
        call(cache, subject(text), verdict)
    return cache


def test_a_payload_may_hold_any_number() -> None:
    assert subject(extras={"a": 2**64}) != subject(extras={"a": 2**65})


def test_texts_that_differ_in_spelling_alone_say_the_same() -> None:
    assert subject("Buy  NOW").alike == subject(" \uff22uy now\n").alike
    assert subject("Buy now").exact != subject("buy now").exact
    assert subject("STRASSE").alike == subject("straße").alike


@pytest.mark.parametrize(
    "other",
    [
        subject(room_id=2),
        subject(changed_at=datetime(2026, 1, 2, tzinfo=UTC)),
        subject(extras={"a": 1}),
        subject(encoding="base64"),
        subject("raids"),
    ],
)
def test_another_room_rule_version_or_content_is_another_subject(other: TextKeys) -> None:
    assert subject().alike != other.alike


def test_bytes_are_never_folded() -> None:
    assert subject("QUJD", encoding="base64").alike != subject("qujd", encoding="base64").alike


def test_the_first_calls_about_a_text_are_made_one_by_one_then_the_verdict_serves() -> None:
    cache = asked("raid", "raid")
    assert look(cache, subject()) is CacheMiss.CALL
    call(cache, subject(), ACCEPT)

    assert look(cache, subject("RAID ")) == ACCEPT
    assert look(cache, subject("other")) is CacheMiss.CALL


def test_while_the_first_calls_are_under_way_the_others_wait_and_then_get_their_verdict() -> None:
    cache, told = VerdictCache(max_texts=100), []
    for _ in range(3):
        assert look(cache, subject()) is CacheMiss.CALL
        cache.begin(subject(), now=0.0)
    for number in range(100):
        assert look(cache, subject()) is CacheMiss.WAIT
        cache.wait(subject(), lambda number=number: told.append(number))  # type: ignore[misc]
    cache.end(subject(), REJECT)

    assert told == list(range(100))
    assert look(cache, subject()) == REJECT
    assert cache.waiting == 0


def test_after_a_failure_one_of_those_who_wait_calls_and_the_others_go_on_waiting() -> None:
    cache, told = VerdictCache(max_texts=100), []
    for _ in range(3):
        cache.begin(subject(), now=0.0)
    cache.wait(subject(), lambda: told.append("a"))
    for _ in range(3):
        assert told == []
        cache.end(subject(), None)

    assert told == ["a"]
    assert look(cache, subject()) is CacheMiss.CALL
    cache.begin(subject(), now=0.0)
    assert look(cache, subject()) is CacheMiss.WAIT


def test_a_verdict_serves_no_longer_than_the_rule_says() -> None:
    cache = asked("raid", "raid", "raid")

    assert look(cache, subject(), now=9.9) == ACCEPT
    assert look(cache, subject(), now=10.0) is CacheMiss.CALL


def test_verdicts_that_contradict_each_other_are_not_shared() -> None:
    cache = asked("raid", "raid")
    call(cache, subject(), REJECT)

    assert look(cache, subject()) is CacheMiss.CALL


def test_a_replacement_serves_for_the_very_same_bytes_alone() -> None:
    starred = Verdict(action=VerdictAction.REPLACE, content=Content(name="chat", text="****"))
    cache = asked("raid", "raid", "raid", verdict=starred)

    assert look(cache, subject("raid")) == starred
    assert look(cache, subject("Raid")) is CacheMiss.CALL
    cache.begin(subject("Raid"), now=0.0)
    assert look(cache, subject("Raid")) is CacheMiss.WAIT
    cache.end(subject("Raid"), Verdict(action=VerdictAction.REPLACE, content=Content(name="chat", text="R***")))
    assert look(cache, subject("Raid")) == Verdict(
        action=VerdictAction.REPLACE, content=Content(name="chat", text="R***")
    )
    assert look(cache, subject("raid")) == starred


def test_a_window_that_ends_while_a_call_hangs_does_not_free_everybody_who_waits() -> None:
    cache = VerdictCache(max_texts=100)
    for _ in range(3):
        cache.begin(subject(), now=0.0)

    assert look(cache, subject(), now=10.0) is CacheMiss.WAIT


def test_no_more_texts_are_known_than_it_may_hold() -> None:
    cache = VerdictCache(max_texts=10)
    for number in range(100):
        call(cache, subject(str(number)), ACCEPT)

    assert len(cache) == 10
    cache.begin(subject("kept"), now=0.0)
    for number in range(100):
        call(cache, subject(str(number)), ACCEPT)
    cache.end(subject("kept"), ACCEPT)
