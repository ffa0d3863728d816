"""docs/webhooks.md says what is sent, and its receiver's code accepts it."""

from __future__ import annotations

import json
import re
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from integrations.wire import events, signing
from integrations.wire.envelope import Callback, Event, Shape, build
from rooms.occupancy.counts import Metrics
from rooms.protocol.wire import Message, Version

TEXT = (Path(__file__).parents[3] / "docs" / "webhooks.md").read_text()
MESSAGE = {
    "id": "m:0:0", "client_id": "bob", "connection_id": "m", "name": "message", "data": "text", "timestamp": 1,
    "serial": "s@1", "action": 0,
}  # fmt: skip
UNPUBLISHED = Message(**{**MESSAGE, "serial": None})


@cache
def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def body(kind: str, payload: str, *, batched: bool = False, **more: Any) -> Any:
    event = Event(webhook_id="msg_1", room="lobby", payload=payload, timestamp=1, kind=kind, **more)
    return json.loads(build(Shape(rule_id="7", app_id="a", site="local", batched=batched), [event]).body)


def shape_of(value: Any) -> Any:
    """Names and types, without what they hold."""
    if isinstance(value, dict):
        return {name: shape_of(inner) for name, inner in value.items()}
    return [shape_of(inner) for inner in value] if isinstance(value, list) else type(value).__name__


def test_every_example_has_the_fields_and_the_order_of_what_is_sent() -> None:
    published = events.message_payload(Message(**MESSAGE))
    hidden = Message(**{**MESSAGE, "data": None, "action": 2, "version": Version(serial="s@2", timestamp=1)})
    review = events.Review(outcome="rejected", by="x", at=1, reason="r", code=1, detail={"word": "w"})
    asked = events.message_payload(Message(**{**MESSAGE, "serial": None, "action": None}))
    sent = [
        body(events.MESSAGE, published),
        body(events.DELETED, events.change_payload(hidden, by="admin")),
        body(events.REVIEWED, events.review_payload(UNPUBLISHED, review)),
        body(events.OPENED, events.status_payload(Metrics(1, 1, 1, 0, 0))),
        body(events.MESSAGE, published, batched=True, serial="s@1"),
        body(events.MESSAGE, asked, callback=Callback(url="u", token="t", expires=1)),
    ]

    shown = [json.loads(block) for block in blocks("json")]

    assert [json.dumps(shape_of(one)) for one in shown] == [json.dumps(shape_of(one)) for one in sent]


def test_every_event_is_in_the_table_with_its_source() -> None:
    rows = dict(re.findall(r"^\| `(channel\.[a-z.]+)` \| `([a-z.]+)` \|", TEXT, re.MULTILINE))

    assert rows == dict(events.SOURCES)


def test_the_python_receiver_accepts_our_calls_and_no_changed_ones() -> None:
    namespace: dict[str, Any] = {}
    exec(blocks("python")[0], namespace)
    secrets = [signing.draw_secret() for _ in range(3)]
    headers = signing.sign(secrets[:2], webhook_id="msg_1", timestamp=int(time.time()), body=b"{}")

    for secret in secrets[:2]:
        namespace["verify"](secret, headers, b"{}")
    for secret, said, sent in (
        (secrets[2], headers, b"{}"),
        (secrets[0], headers, b"[]"),
        (secrets[0], headers | {"webhook-timestamp": "1"}, b"{}"),
    ):
        with pytest.raises(ValueError, match=r"too old|not from"):
            namespace["verify"](secret, said, sent)
