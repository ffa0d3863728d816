from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from moderation import word_rules
from moderation.models import WordRule
from moderation.reviewer import LocalReviewer
from rooms.errors import Code
from rooms.log.content import Content, Draft
from rooms.review.contract import Deferral, Verdict, VerdictAction

pytestmark = pytest.mark.django_db


def submission(room: str = "lobby", **content: Any) -> Draft:
    return Draft(
        room_id=1,
        room=room,
        message_id="m",
        author="client:bob",
        client_id="bob",
        connection_id=None,
        content=Content(**content),
        accepted_ms=0,
    )


def review(room: str = "lobby", **content: Any) -> Verdict | None:
    (answer,) = LocalReviewer().review([submission(room, **content)])
    assert not isinstance(answer, Deferral)
    return answer


def add(pattern: str, action: str = "mask", **fields: Any) -> WordRule:
    rule = WordRule(name=fields.pop("name", pattern), pattern=pattern, action=action, **fields)
    rule.full_clean()
    word_rules.store(rule, by="alice", now=timezone.now())
    return rule


def test_sixty_four_zero_width_characters_are_refused_with_a_reason() -> None:
    verdict = review(text="\u200b" * 64)
    assert verdict is not None
    assert (verdict.action, verdict.code) == (VerdictAction.REJECT, Code.REJECTED_BY_VALIDATION)
    assert "visible character" in verdict.reason


@pytest.mark.parametrize("text", [" ", "\n\t", "\u202e\u202c", "\ufe0f\u200d", "\u2800", "\x07"])
def test_other_texts_without_a_visible_character_are_refused_too(text: str) -> None:
    verdict = review(text=text)
    assert verdict is not None
    assert verdict.code == Code.REJECTED_BY_VALIDATION


@pytest.mark.parametrize(
    "content",
    [
        {"text": None},
        {"text": None, "name": "typing"},
        {"text": "", "name": "typing"},
        {"binary": b"\0"},
        {"text": '" "', "encoding": "json"},
        {"text": " ", "encoding": "cipher+aes-256-cbc/base64"},
        {"text": " ", "extras": {"media": [{"url": "https://example.com/cat.png"}]}},
        {"text": "👍"},
    ],
)
def test_what_is_no_plain_text_or_can_be_seen_is_left_alone(content: dict[str, Any]) -> None:
    assert review(**content) is None


def test_a_mask_rule_replaces_the_words_and_nothing_else() -> None:
    add("cabbage")
    verdict = review(text="I like CABBAGE", name="chat", extras={"headers": {"a": 1}})
    assert verdict is not None
    assert verdict.action is VerdictAction.REPLACE
    assert verdict.content == Content(text="I like *******", name="chat", extras={"headers": {"a": 1}})


def test_a_reject_rule_tells_the_author_its_reason() -> None:
    add("cabbage", "reject", reason="No vegetables here.")
    verdict = review(text="cabbage")
    assert verdict is not None
    assert (verdict.action, verdict.code) == (VerdictAction.REJECT, Code.REJECTED_BY_MODERATION)
    assert verdict.reason == "No vegetables here."


def test_the_strongest_rule_decides() -> None:
    add("cabbage", "mask")
    add("turnip", "hold", name="roots")
    add("carrot", "reject")
    for text, action in (
        ("cabbage", VerdictAction.REPLACE),
        ("turnip cabbage", VerdictAction.HOLD),
        ("turnip cabbage carrot", VerdictAction.REJECT),
    ):
        verdict = review(text=text)
        assert verdict is not None
        assert verdict.action is action
    verdict = review(text="turnip")
    assert verdict is not None
    assert "roots" in verdict.reason


def test_the_texts_inside_json_are_checked_and_its_keys_kept() -> None:
    add("cabbage")
    verdict = review(text='{"cabbage":1,"text":["a cabbage",true,{"x":"ok"}]}', encoding="json")
    assert verdict is not None
    assert verdict.content == Content(text='{"cabbage":1,"text":["a *******",true,{"x":"ok"}]}', encoding="json")


def test_json_of_many_texts_is_checked_too() -> None:
    add("cabbage")
    many = ",".join(f'"text {number}"' for number in range(1000))
    assert review(text=f"[{many}]", encoding="json") is None
    verdict = review(text=f'[{many},"cabbage"]', encoding="json")
    assert verdict is not None
    assert verdict.content is not None
    assert (verdict.content.text or "").endswith('"*******"]')


def test_data_that_is_only_labelled_json_is_checked_as_text() -> None:
    add("cabbage")
    verdict = review(text="{cabbage", encoding="json")
    assert verdict is not None
    assert verdict.content == Content(text="{*******", encoding="json")


def test_binary_and_encrypted_data_are_not_read() -> None:
    add("cabbage")
    assert review(binary=b"cabbage") is None
    assert review(text="cabbage", encoding="cipher+aes-128-cbc/base64") is None


def test_a_rule_counts_in_the_rooms_of_its_filter() -> None:
    add("cabbage", room_filter="^garden:")
    assert review("garden:1", text="cabbage") is not None
    assert review("lobby", text="cabbage") is None


def test_changes_of_rules_count_from_the_next_batch() -> None:
    assert review(text="cabbage") is None
    rule = add("cabbage")
    assert review(text="cabbage") is not None
    word_rules.set_enabled([rule.pk], enabled=False, by="alice", now=timezone.now())
    assert review(text="cabbage") is None
    word_rules.set_enabled([rule.pk], enabled=True, by="alice", now=timezone.now())
    rule.refresh_from_db()
    rule.pattern = "turnip"
    word_rules.store(rule, by="alice", now=timezone.now())
    assert review(text="cabbage") is None
    WordRule.objects.all().delete()
    assert review(text="turnip") is None


def test_a_batch_reads_the_rules_with_one_query() -> None:
    for number in range(20):
        add(f"word{number}")
    review(text="warm")
    with CaptureQueriesContext(
        connection,
    ) as queries:
        LocalReviewer().review([submission(f"room-{number % 3}", text=f"hi {number}") for number in range(200)])
    assert len(queries) == 1


def test_a_rule_that_was_written_past_the_checks_is_skipped(caplog: pytest.LogCaptureFixture) -> None:
    WordRule.objects.create(name="broken", pattern="(secret", kind="regex")
    add("cabbage", "reject")
    assert review(text="cabbage") is not None
    assert review(text="fine") is None
    assert "cannot be compiled" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"pattern": "(", "kind": "regex"}, "pattern"),
        ({"pattern": "x", "room_filter": "["}, "room_filter"),
        ({"pattern": "\u200b"}, "pattern"),
    ],
)
def test_a_rule_that_cannot_work_is_refused_at_its_field(fields: dict[str, str], field: str) -> None:
    with pytest.raises(ValidationError) as refused:
        WordRule(name="rule", **fields).full_clean()
    assert list(refused.value.message_dict) == [field]
