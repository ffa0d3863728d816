"""Builds the bodies and headers of webhook calls in the public format. Pure.

Single and enveloped:  {"source", "event", "version", "appId", "channel", "site", "ruleId", "timestamp", ...fields}
Batched:               {"items": [{"id", "webhookId", "source", "version", "timestamp", "serial", "name", "data"}]}
Plain:                 a message's data alone, or the event's fields; everything else in headers

The fields are the event's own (integrations.wire.events): `messages`, `review`, `status`. Ours are `event`, `version`,
the item's `id` (the event's own: it stays the same whatever batch a repeat comes in) and `callback`.
"""

from __future__ import annotations

import base64
import hashlib
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import msgspec

from integrations.wire import events as kinds
from rooms.protocol.wire import Message

VERSION = "1.2"  # of the public webhook format
USER_AGENT = "chatsite-webhooks/1"
JSON = "application/json"
# Visible ASCII and spaces stand in a header as they are; everything else, and %, is percent-encoded UTF-8.
HEADER_SAFE = "".join(sorted(set(string.punctuation + " ") - {"%"}))


@dataclass(frozen=True, kw_only=True)
class Callback:
    """The URL, token and expiry (milliseconds since the epoch) for a verdict by callback."""

    url: str
    token: str
    expires: int

    def as_dict(self) -> dict[str, Any]:
        """Return the public shape."""
        return {"url": self.url, "token": self.token, "expires": self.expires}


@dataclass(frozen=True, kw_only=True)
class Event:
    """The event of one delivery: `payload` as integrations.wire.events writes it, `serial` in its public form."""

    webhook_id: str
    room: str
    payload: str
    timestamp: int  # milliseconds since the epoch
    kind: str = kinds.MESSAGE
    serial: str | None = None
    callback: Callback | None = None

    @property
    def source(self) -> str:
        """The public source of the event."""
        return kinds.SOURCES[self.kind]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The format of a rule's calls."""

    rule_id: str
    app_id: str
    site: str
    enveloped: bool = True
    batched: bool = False


@dataclass(frozen=True, kw_only=True)
class WebhookCall:
    """The body and headers of a call without the signature, which each attempt makes anew."""

    webhook_id: str
    body: bytes
    headers: dict[str, str]


def build(shape: Shape, events: Sequence[Event]) -> WebhookCall:
    """Return the call for one event, or for any number of events of a batched rule."""
    assert events and (shape.batched or len(events) == 1)
    headers = {"content-type": JSON, "x-ably-version": VERSION, "user-agent": USER_AGENT}
    if shape.batched:
        body = msgspec.json.encode({"items": [_item(shape, event) for event in events]})
    elif shape.enveloped:
        body = msgspec.json.encode(_enveloped(shape, events[0]))
    else:
        body, more = _plain(shape, events[0])
        headers |= more
    return WebhookCall(webhook_id=webhook_id_of(events), body=body, headers=headers)


def webhook_id_of(events: Sequence[Event]) -> str:
    """Return the webhook id of a call: the event's own, or a hash of the batch that is the same in each attempt."""
    if len(events) == 1:
        return events[0].webhook_id
    joined = ",".join(event.webhook_id for event in events)
    return "bat_" + hashlib.sha256(joined.encode()).hexdigest()[:32]


def _enveloped(shape: Shape, event: Event) -> dict[str, Any]:
    envelope: dict[str, Any] = {
        "source": event.source,
        "event": event.kind,
        "version": kinds.VERSION,
        "appId": shape.app_id,
        "channel": event.room,
        "site": shape.site,
        "ruleId": shape.rule_id,
        "timestamp": event.timestamp,
        **kinds.fields_of(event.kind, event.payload),
    }
    if event.callback is not None:
        envelope["callback"] = event.callback.as_dict()
    return envelope


def _item(shape: Shape, event: Event) -> dict[str, Any]:
    item: dict[str, Any] = {
        "id": event.webhook_id,
        "webhookId": shape.rule_id,
        "source": event.source,
        "version": kinds.VERSION,
        "timestamp": event.timestamp,
        **({} if event.serial is None else {"serial": event.serial}),
        "name": event.kind,
        "data": {"channelId": event.room, "site": shape.site, **kinds.fields_of(event.kind, event.payload)},
    }
    if event.callback is not None:
        item["callback"] = event.callback.as_dict()
    return item


def _plain(shape: Shape, event: Event) -> tuple[bytes, dict[str, str]]:
    described: dict[str, str | int | None] = {
        "x-ably-envelope-appid": shape.app_id,
        "x-ably-envelope-channel": event.room,
        "x-ably-envelope-rule-id": shape.rule_id,
        "x-ably-envelope-site": shape.site,
        "x-ably-envelope-source": event.source,
        "x-ably-envelope-event": event.kind,
    }
    message = kinds.message_of(event.kind, event.payload)
    if message is None or event.kind == kinds.REVIEWED:  # the message alone would not say how its review ended
        body = event.payload.encode()
    else:
        body, more = _plain_message(message)
        described |= more
    if event.callback is not None:
        described |= {
            "x-callback-url": event.callback.url,
            "x-callback-token": event.callback.token,
            "x-callback-expires": event.callback.expires,
        }
    return body, {name: header_text(value) for name, value in described.items() if value is not None}


def _plain_message(message: Message) -> tuple[bytes, dict[str, str | int | None]]:
    """Return the data of a message as body, and its other fields as headers."""
    body, content_type, encoding = _plain_data(message)
    return body, {
        "content-type": content_type,
        "x-ably-message-client-id": message.client_id,
        "x-ably-message-connection-id": message.connection_id,
        "x-ably-message-id": message.id,
        "x-ably-message-name": message.name,
        "x-ably-message-timestamp": message.timestamp,
        "x-ably-message-encoding": encoding,
        "x-ably-message-serial": message.serial,
        "x-ably-message-action": message.action,
    }


def _plain_data(message: Message) -> tuple[bytes, str, str | None]:
    """Return the bytes of the data, their content type, and the encoding that remains."""
    data, encoding = message.data, message.encoding or ""
    if data is None:
        return b"", "text/plain", None
    assert isinstance(data, str)  # payloads hold text or base64, as rooms.protocol.wire writes them
    if encoding == "base64" or encoding.endswith("/base64"):
        rest = encoding.removesuffix("base64").removesuffix("/")
        return base64.b64decode(data), "application/octet-stream", rest or None
    if encoding == "json":
        return data.encode(), JSON, None
    return data.encode(), "text/plain; charset=utf-8", encoding or None


def header_text(value: str | int) -> str:
    """Return a value as text for a header, percent-encoded where needed."""
    return quote(str(value), safe=HEADER_SAFE).strip()
