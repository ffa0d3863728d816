"""The bodies of calls, in the public format."""

from __future__ import annotations

import json
from dataclasses import replace
from urllib.parse import unquote

from hypothesis import given
from hypothesis import strategies as st

from integrations.wire.envelope import Callback, Event, Shape, build, header_text, webhook_id_of

SHAPE = Shape(rule_id="7", app_id="app", site="local")
MESSAGE = {
    "id": "abc:0:0",
    "clientId": "alice",
    "connectionId": "abc",
    "name": "chat",
    "data": "I don't like how cabbage tastes",
    "timestamp": 1_700_000_000_000,
}
EVENT = Event(webhook_id="msg_1", room="chat:from-clients", payload=json.dumps(MESSAGE), timestamp=5, serial="e-01")
CALLBACK = Callback(url="http://chat.example/integrations/verdict", token="t.m", expires=9)


def test_an_enveloped_call_has_the_text_where_the_seed_looks_for_it() -> None:
    call = build(SHAPE, [EVENT])

    assert json.loads(call.body)["messages"][0]["data"] == "I don't like how cabbage tastes"
    assert json.loads(call.body) == {
        "source": "channel.message",
        "event": "channel.message",
        "version": 1,
        "appId": "app",
        "channel": "chat:from-clients",
        "site": "local",
        "ruleId": "7",
        "timestamp": 5,
        "messages": [MESSAGE],
    }
    assert call.headers["content-type"] == "application/json"
    assert call.headers["x-ably-version"] == "1.2"
    assert call.webhook_id == "msg_1"


def test_a_call_before_publish_says_where_the_verdict_may_go() -> None:
    body = json.loads(build(SHAPE, [replace(EVENT, callback=CALLBACK)]).body)

    assert body["callback"] == {"url": "http://chat.example/integrations/verdict", "token": "t.m", "expires": 9}


def test_a_batched_call_has_an_item_for_each_event() -> None:
    events = [EVENT, replace(EVENT, webhook_id="msg_2", room="other", serial=None, callback=CALLBACK)]
    items = json.loads(build(replace(SHAPE, batched=True), events).body)["items"]

    assert items[0] == {
        "id": "msg_1",
        "webhookId": "7",
        "source": "channel.message",
        "version": 1,
        "timestamp": 5,
        "serial": "e-01",
        "name": "channel.message",
        "data": {"channelId": "chat:from-clients", "site": "local", "messages": [MESSAGE]},
    }
    assert items[1]["data"]["channelId"] == "other"
    assert items[1]["callback"]["token"] == "t.m"
    assert "serial" not in items[1]


def test_a_batch_has_an_id_that_only_the_same_batch_gets_again() -> None:
    other = replace(EVENT, webhook_id="msg_2")

    assert webhook_id_of([EVENT, other]) == webhook_id_of([EVENT, other])
    assert len({webhook_id_of(batch) for batch in ([EVENT], [other], [EVENT, other], [other, EVENT])}) == 4


def test_a_plain_call_is_the_data_with_everything_else_in_headers() -> None:
    call = build(replace(SHAPE, enveloped=False), [EVENT])

    assert call.body.decode() == "I don't like how cabbage tastes"
    assert call.headers["content-type"].startswith("text/plain")
    assert call.headers["x-ably-envelope-channel"] == "chat:from-clients"
    assert call.headers["x-ably-envelope-appid"] == "app"
    assert call.headers["x-ably-envelope-rule-id"] == "7"
    assert call.headers["x-ably-envelope-source"] == "channel.message"
    assert call.headers["x-ably-message-client-id"] == "alice"
    assert call.headers["x-ably-message-id"] == "abc:0:0"
    assert call.headers["x-ably-message-name"] == "chat"
    assert call.headers["x-ably-message-timestamp"] == "1700000000000"


def test_plain_json_and_bytes_come_with_their_content_type() -> None:
    plain = replace(SHAPE, enveloped=False)
    as_json = build(plain, [replace(EVENT, payload='{"data":"{\\"a\\":1}","encoding":"json"}')])
    as_bytes = build(plain, [replace(EVENT, payload='{"data":"AAH/","encoding":"base64"}')])

    assert (as_json.headers["content-type"], as_json.body) == ("application/json", b'{"a":1}')
    assert (as_bytes.headers["content-type"], as_bytes.body) == ("application/octet-stream", b"\x00\x01\xff")


EDITED = replace(EVENT, kind="channel.message.updated", payload=json.dumps({"messages": [MESSAGE], "by": "mod"}))
STATUS = {"isActive": True, "occupancy": {"metrics": {"connections": 1}}}
OPENED = replace(EVENT, kind="channel.opened", payload=json.dumps({"status": STATUS}), serial=None)


def test_an_event_says_what_it_is_and_brings_its_own_fields() -> None:
    edited, opened = (json.loads(build(SHAPE, [event]).body) for event in (EDITED, OPENED))

    assert (edited["source"], edited["event"]) == ("channel.message", "channel.message.updated")
    assert (edited["messages"], edited["by"]) == ([MESSAGE], "mod")
    assert (opened["source"], opened["event"], opened["status"]) == ("channel.lifecycle", "channel.opened", STATUS)
    assert "messages" not in opened


def test_a_batch_may_hold_events_of_several_kinds() -> None:
    items = json.loads(build(replace(SHAPE, batched=True), [EDITED, OPENED]).body)["items"]

    assert [(item["source"], item["name"]) for item in items] == [
        ("channel.message", "channel.message.updated"),
        ("channel.lifecycle", "channel.opened"),
    ]
    assert items[1]["data"] == {"channelId": "chat:from-clients", "site": "local", "status": STATUS}


def test_a_plain_call_about_a_room_is_the_events_fields() -> None:
    plain = replace(SHAPE, enveloped=False)
    edited, opened = build(plain, [EDITED]), build(plain, [OPENED])

    assert edited.body.decode() == MESSAGE["data"]
    assert edited.headers["x-ably-envelope-event"] == "channel.message.updated"
    assert json.loads(opened.body) == {"status": STATUS}
    assert (opened.headers["content-type"], opened.headers["x-ably-envelope-source"]) == (
        "application/json", "channel.lifecycle",
    )  # fmt: skip


@given(st.text())
def test_whatever_a_name_holds_a_header_can_carry_it(value: str) -> None:
    text = header_text(value)

    assert text.isascii() and (text.isprintable() or text == "")
    assert unquote(text) == value.strip(" ")
