"""What rules hear of, as the public format tells it: each event's source, name and payload. Pure.

A delivery keeps its event's *payload*, JSON text that never changes: for a message that is asked about, accepted or
published the message itself; for everything else an object with the fields that the body has for this event:

    channel.message.updated, channel.message.deleted   {"messages": [message], "by": "..."}
    channel.message.reviewed                            {"messages": [message], "review": {...}}
    channel.occupancy, channel.opened, channel.closed   {"status": {"isActive", "occupancy": {"metrics": {...}}}}

VERSION grows when a field changes its meaning or goes; new fields may come without.
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
WHOLE_MESSAGES: Final = frozenset({MESSAGE, ACCEPTED})  # whose payload is the message
OF_THE_LOG: Final = frozenset({MESSAGE, EDITED, DELETED})  # whose serial is a place in the room's log
OF_MESSAGES: Final = frozenset({MESSAGE, EDITED, DELETED, ACCEPTED, REVIEWED})


class Review(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """How a review ended: `outcome` is published, rejected, held, retracted or restored. `at`: milliseconds."""

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


# --- From what happened to a payload ------------------------------------------------------------------------


def message_payload(message: Message) -> str:
    """Return the payload of a message that is published."""
    return _encoder.encode(for_format(message, Format.JSON)).decode()


def draft_payload(draft: Draft) -> str:
    """Return the payload of a message that is not published yet, as its author or the last rule left it."""
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
    """Return the payload of a published message that was edited or hidden, as it is now."""
    return _encoder.encode(_Payload(messages=[for_format(message, Format.JSON)], by=by)).decode()


def review_payload(message: Message, review: Review) -> str:
    """Return the payload of a review's end."""
    return _encoder.encode(_Payload(messages=[for_format(message, Format.JSON)], review=review)).decode()


def status_payload(metrics: Metrics) -> str:
    """Return the payload of an event about a room: how many are in it."""
    status = {"isActive": metrics.connections > 0, "occupancy": {"metrics": metrics.shape}}
    return _encoder.encode(_Payload(status=status)).decode()


# --- From a payload to what is sent -------------------------------------------------------------------------


def fields_of(event: str, payload: str) -> dict[str, Any]:
    """Return the fields that a body has for an event, each as JSON that is not parsed again."""
    if event in WHOLE_MESSAGES:
        return {"messages": [msgspec.Raw(payload.encode())]}
    return dict(_fields.decode(payload))


def message_of(event: str, payload: str) -> Message | None:
    """Return the message that an event is about; None for events about a room."""
    if event in WHOLE_MESSAGES:
        return msgspec.json.decode(payload, type=Message)
    messages = msgspec.json.decode(payload, type=_Payload).messages
    return messages[0] if messages else None
