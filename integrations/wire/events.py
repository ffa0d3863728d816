"""The events of rules in the public format: source, name and payload of each. Pure.

A delivery stores its event's *payload*, JSON text that never changes. For a message that is asked about, accepted or
published it is the message itself; for other events it is an object with the fields of the body:

    channel.message.updated, channel.message.deleted   {"messages": [message], "by": "..."}
    channel.message.reviewed                            {"messages": [message], "review": {...}}
    channel.occupancy, channel.opened, channel.closed   {"status": {"isActive", "occupancy": {"metrics": {...}}}}

VERSION grows when a field changes its meaning or is removed; new fields may be added without.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from rooms.log.content import Draft
from rooms.occupancy.counts import Metrics
from rooms.protocol.wire import Format, Message, for_format

VERSION: Final = 1

MESSAGE: Final = "channel.message"
EDITED: Final = "channel.message.updated"
DELETED: Final = "channel.message.deleted"
ACCEPTED: Final = "channel.message.accepted"
REVIEWED: Final = "channel.message.reviewed"
OCCUPANCY: Final = "channel.occupancy"
OPENED: Final = "channel.opened"
CLOSED: Final = "channel.closed"

# The public `source` of each event; its `name` is the event itself.
SOURCES: Final = {
    MESSAGE: "channel.message",
    EDITED: "channel.message",
    DELETED: "channel.message",
    ACCEPTED: "channel.message",
    REVIEWED: "channel.message",
    OCCUPANCY: "channel.occupancy",
    OPENED: "channel.lifecycle",
    CLOSED: "channel.lifecycle",
}
WHOLE_MESSAGES: Final = frozenset({MESSAGE, ACCEPTED})  # events whose payload is the message
OF_THE_LOG: Final = frozenset({MESSAGE, EDITED, DELETED})  # events whose serial is a place in the room's log
OF_MESSAGES: Final = frozenset({MESSAGE, EDITED, DELETED, ACCEPTED, REVIEWED})


class Review(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """The end of a review: `outcome` is published, rejected, held, retracted or restored. `at`: milliseconds."""

    outcome: str
    by: str
    at: int
    reason: str = ""
    code: int | None = None
    detail: dict[str, Any] | None = None


class _Payload(msgspec.Struct, omit_defaults=True, kw_only=True):
    messages: list[Message] | None = None
    by: str | None = None
    review: Review | None = None
    status: dict[str, Any] | None = None


_encoder = msgspec.json.Encoder()
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


# --- From events to payloads --------------------------------------------------------------------------------


def message_payload(message: Message) -> str:
    """Return the payload of a published message."""
    return _encoder.encode(for_format(message, Format.JSON)).decode()


def draft_payload(draft: Draft) -> str:
    """Return the payload of a message before publish, as its author or the last rule left it."""
    content = draft.content
    return message_payload(
        Message(
            id=draft.message_id,
            client_id=draft.client_id,
            connection_id=draft.connection_id,
            name=content.name,
            data=content.data,
            encoding=content.encoding,
            extras=content.extras,
            timestamp=draft.accepted_ms,
        )
    )


def change_payload(message: Message, *, by: str) -> str:
    """Return the payload of a published message that was edited or hidden."""
    return _encoder.encode(_Payload(messages=[for_format(message, Format.JSON)], by=by)).decode()


def review_payload(message: Message, review: Review) -> str:
    """Return the payload of the end of a review."""
    return _encoder.encode(_Payload(messages=[for_format(message, Format.JSON)], review=review)).decode()


def status_payload(metrics: Metrics) -> str:
    """Return the payload of an event about a room: its occupancy."""
    status = {"isActive": metrics.connections > 0, "occupancy": {"metrics": metrics.shape}}
    return _encoder.encode(_Payload(status=status)).decode()


# --- From payloads to bodies --------------------------------------------------------------------------------


def fields_of(event: str, payload: str) -> dict[str, Any]:
    """Return the fields of an event's body, each as raw JSON."""
    if event in WHOLE_MESSAGES:
        return {"messages": [msgspec.Raw(payload.encode())]}
    return dict(_fields.decode(payload))


def message_of(event: str, payload: str) -> Message | None:
    """Return the message of an event; None for events about a room."""
    if event in WHOLE_MESSAGES:
        return msgspec.json.decode(payload, type=Message)
    messages = msgspec.json.decode(payload, type=_Payload).messages
    return messages[0] if messages else None
