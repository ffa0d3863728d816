"""What answers to before-publish calls mean."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.wire.verdicts import AskedMessage, BadAnswer, as_text, parse
from rooms.log.content import Content
from rooms.review.contract import Verdict, VerdictAction

PUBLIC = {"id": "m1", "name": "chat", "data": "cabbage", "extras": {"a": 1}}
ASKED = AskedMessage(key=1, ids=frozenset({"m1", "msg_1"}), payload=json.dumps(PUBLIC))
OTHER = AskedMessage(key=2, ids=frozenset({"m2", "msg_2"}), payload=json.dumps({**PUBLIC, "id": "m2"}))


def read(answer: Any, *asked: AskedMessage) -> dict[int, Verdict]:
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return parse(body, asked or (ASKED,), max_bytes=65536)


def modified(change: dict[str, Any], original: dict[str, Any] | None = None) -> Content | None:
    asked = AskedMessage(key=1, ids=frozenset(), payload=json.dumps(original or PUBLIC))
    return read({"action": "modify", "message": change}, asked)[1].content


def test_accept_reject_and_hold_are_verdicts() -> None:
    rejected = read({"action": "reject", "reason": "rude", "rejectionDetail": {"word": 3}})[1]

    assert read({"action": "accept"})[1].action is VerdictAction.PUBLISH
    assert read({"action": "hold"})[1].action is VerdictAction.HOLD
    assert (rejected.action, rejected.code, rejected.reason, rejected.detail) == (
        VerdictAction.REJECT,
        42211,
        "rude",
        {"word": 3},
    )


def test_a_modification_keeps_what_it_does_not_name() -> None:
    assert modified({"data": "*******"}) == Content(name="chat", text="*******", extras={"a": 1})
    assert modified({"data": "x", "name": None, "extras": {"b": 2}}) == Content(text="x", extras={"b": 2})
    assert modified({"extras": {}}) == Content(name="chat", text="cabbage")


def test_an_object_as_data_becomes_json() -> None:
    content = modified({"data": {"text": "hi"}})

    assert content is not None
    assert (content.text, content.encoding) == ('{"text":"hi"}', "json")


def test_data_stays_in_the_encoding_that_it_came_in_where_it_fits() -> None:
    original = {"id": "m1", "data": '{"t":"cabbage"}', "encoding": "json"}

    assert modified({"data": '{"t":"*"}'}, original) == Content(text='{"t":"*"}', encoding="json")
    assert modified({"data": "no json"}, original) == Content(text="no json")
    assert modified({"data": "AQI="}, {"id": "m1", "data": "AA==", "encoding": "base64"}) == Content(binary=b"\x01\x02")


def test_an_acceptance_with_a_message_is_a_modification_only_if_something_changed() -> None:
    assert read({"action": "accept", "message": PUBLIC})[1].action is VerdictAction.PUBLISH
    assert read({"action": "accept", "message": {"data": "other"}})[1].action is VerdictAction.REPLACE


@pytest.mark.parametrize("body", [b"", b"  \n", b"{}", b'{"status":"pending"}', b"201", b'"201"', b"null", b"[]"])
def test_an_answer_without_an_action_is_no_verdict_yet(body: bytes) -> None:
    assert read(body) == {}


def test_the_verdicts_of_a_batch_are_told_apart_by_message_id_or_item_id() -> None:
    found = read({"verdicts": [{"id": "m2", "action": "reject"}, {"id": "msg_1", "action": "accept"}]}, ASKED, OTHER)

    assert {key: verdict.action for key, verdict in found.items()} == {
        1: VerdictAction.PUBLISH,
        2: VerdictAction.REJECT,
    }


def test_a_batch_may_be_answered_in_part() -> None:
    assert set(read({"verdicts": [{"id": "m2", "action": "accept"}]}, ASKED, OTHER)) == {2}


@pytest.mark.parametrize(
    "answer",
    [
        b"OK",
        b"\xff\xfe",
        b'{"action":',
        b"[" * 30_000,
        b'{"action":"accept","reason":"\\ud800"}',
        b"1" * 10_000,
        {"action": "delete"},
        {"action": 7},
        {"action": None},
        {"action": "modify"},
        {"action": "modify", "message": "text"},
        {"action": "modify", "message": {"data": "a\0b"}},
        {"action": "modify", "message": {"data": "x", "extras": [1]}},
        {"action": "modify", "message": {"data": "x" * 70_000}},
        {"action": "modify", "message": {"data": "@@", "encoding": "base64"}},
        {"action": "reject", "reason": ["a"]},
        {"action": "reject", "reason": "a\0"},
        {"action": "reject", "rejectionDetail": "rude"},
        {"action": "reject", "rejectionDetail": {"a": "\0"}},
        {"action": "reject", "rejectionDetail": {"a": [2**64]}},
        {"action": "modify", "message": {"extras": {"a": -(2**63) - 1}}},
        {"action": "accept", "id": "another message"},
        {"verdicts": {"id": "m1"}},
        {"verdicts": [{"id": "m1", "action": "accept"}, {"id": "msg_1", "action": "reject"}]},
    ],
)
def test_an_answer_of_a_wrong_shape_is_refused_with_a_sentence(answer: Any) -> None:
    with pytest.raises(BadAnswer) as caught:
        read(answer)

    assert 10 < len(str(caught.value)) < 400


def test_a_verdict_without_an_id_does_not_answer_for_several_messages() -> None:
    with pytest.raises(BadAnswer, match="id"):
        read({"action": "accept"}, ASKED, OTHER)


@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.text() | st.integers(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.sampled_from(["action", "message", "verdicts", "reason", "id", "data"]), inner)
        ),
    )
)
def test_no_answer_breaks_the_parser(answer: Any) -> None:
    try:
        read(answer)
    except BadAnswer:
        pass


def test_equal_verdicts_are_equal_texts() -> None:
    one = read({"action": "reject", "rejectionDetail": {"a": 1, "b": 2}})[1]
    same = read({"rejectionDetail": {"b": 2, "a": 1}, "action": "reject"})[1]

    assert as_text(one) == as_text(same)
    assert as_text(one) != as_text(read({"action": "accept"})[1])
