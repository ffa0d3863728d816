"""Encodes and decodes the messages of the public realtime protocol, as JSON and as MessagePack. Pure.

Source: repository ably/specification, protocol.md (ProtocolMessage, actions) and features.md (TR*, TM*, CD*).
"""

from __future__ import annotations

import base64
import binascii
from enum import IntEnum, IntFlag, StrEnum
from typing import Any

import msgspec

from rooms.errors import ChatError, Code


class Action(IntEnum):
    """The kinds of protocol messages."""

    HEARTBEAT = 0
    ACK = 1
    NACK = 2
    CONNECT = 3
    CONNECTED = 4
    DISCONNECT = 5
    DISCONNECTED = 6
    CLOSE = 7
    CLOSED = 8
    ERROR = 9
    ATTACH = 10
    ATTACHED = 11
    DETACH = 12
    DETACHED = 13
    PRESENCE = 14
    MESSAGE = 15
    SYNC = 16
    AUTH = 17
    ACTIVATE = 18
    OBJECT = 19
    OBJECT_SYNC = 20
    ANNOTATION = 21


class Flag(IntFlag):
    """Bits of `flags` (TR3)."""

    HAS_PRESENCE = 1 << 0
    HAS_BACKLOG = 1 << 1
    RESUMED = 1 << 2
    TRANSIENT = 1 << 4
    ATTACH_RESUME = 1 << 5
    HAS_OBJECTS = 1 << 7
    PRESENCE = 1 << 16
    PUBLISH = 1 << 17
    SUBSCRIBE = 1 << 18
    PRESENCE_SUBSCRIBE = 1 << 19
    ANNOTATION_PUBLISH = 1 << 21
    ANNOTATION_SUBSCRIBE = 1 << 22


META_ACTION = 3  # of messages that the server itself sends (TM5); those of members have rooms.models.MessageAction
MODES = Flag.PRESENCE | Flag.PUBLISH | Flag.SUBSCRIBE | Flag.PRESENCE_SUBSCRIBE


class Format(StrEnum):
    """The encoding of frames; the value is the parameter `format` of the connection's query."""

    JSON = "json"
    MSGPACK = "msgpack"


class Version(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """The last change of a message (TM2s)."""

    serial: str | None = None
    timestamp: int | None = None
    client_id: str | None = None
    description: str | None = None


class Message(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """One message. Its `data` is text or bytes when it is sent; a client's JSON may hold any value there."""

    id: str | None = None
    client_id: str | None = None
    connection_id: str | None = None
    name: str | None = None
    data: Any = None
    encoding: str | None = None
    extras: Any = None
    timestamp: int | None = None
    serial: str | None = None
    action: int | None = None
    version: Version | None = None


class ErrorInfo(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """An error as clients read it (TI1)."""

    code: int
    status_code: int
    message: str
    detail: dict[str, Any] | None = None

    @classmethod
    def of(cls, error: ChatError) -> ErrorInfo:
        """Return an error as clients read it."""
        return cls(code=error.code, status_code=error.status, message=error.message, detail=error.detail)


class AuthDetails(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """The content of AUTH: a new token for a live connection (AD1)."""

    access_token: str | None = None


class ConnectionDetails(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """The limits and the key of a connection, sent in CONNECTED (CD2). Durations in milliseconds, sizes in bytes."""

    client_id: str | None = None
    connection_key: str
    connection_state_ttl: int
    max_frame_size: int
    max_inbound_rate: int
    max_idle_interval: int
    max_message_size: int
    server_id: str


class PublishResult(msgspec.Struct):
    """The serials of one publish's messages; null for a message that is stored but not visible yet."""

    serials: list[str | None]


class ProtocolMessage(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """The unit of transmission (TR4). Unknown fields are ignored."""

    action: int
    id: str | None = None
    auth: AuthDetails | None = None
    channel: str | None = None
    channel_serial: str | None = None
    connection_details: ConnectionDetails | None = None
    connection_id: str | None = None
    connection_key: str | None = None
    count: int | None = None
    error: ErrorInfo | None = None
    flags: int | None = None
    messages: list[Message] | None = None
    msg_serial: int | None = None
    params: dict[str, str] | None = None
    presence: list[Any] | None = None
    res: list[PublishResult] | None = None
    timestamp: int | None = None


_json_decoder = msgspec.json.Decoder(ProtocolMessage)
_msgpack_decoder = msgspec.msgpack.Decoder(ProtocolMessage)
_json_encoder = msgspec.json.Encoder()
_msgpack_encoder = msgspec.msgpack.Encoder()


def decode(frame: bytes | str, wire_format: Format) -> ProtocolMessage:
    """Read a frame. Raises ChatError 40000 for one that is malformed, naming the field and quoting no content."""
    try:
        if wire_format is Format.JSON:
            return _json_decoder.decode(frame)
        return _msgpack_decoder.decode(frame if isinstance(frame, bytes) else frame.encode())
    except msgspec.ValidationError as error:
        raise ChatError(Code.BAD_REQUEST, f"The protocol message has a wrong shape: {error}"[:300]) from None
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise ChatError(Code.BAD_REQUEST, f"The frame is not valid {wire_format.value}.") from None


def encode(message: ProtocolMessage, wire_format: Format) -> bytes:
    """Write a frame's payload. Pass messages with binary data through `for_format` first."""
    return _json_encoder.encode(message) if wire_format is Format.JSON else _msgpack_encoder.encode(message)


def for_format(message: Message, wire_format: Format) -> Message:
    """Return the message as the format carries it: JSON takes bytes as base64 and says so in `encoding`."""
    if wire_format is Format.MSGPACK or not isinstance(message.data, bytes):
        return message
    return msgspec.structs.replace(
        message,
        data=base64.b64encode(message.data).decode("ascii"),
        encoding=f"{message.encoding}/base64" if message.encoding else "base64",
    )


def to_json_shape(message: Message) -> dict[str, Any]:
    """Return a message as the JSON object that webhooks, REST and the admin show."""
    shape = msgspec.to_builtins(for_format(message, Format.JSON))
    assert isinstance(shape, dict)
    return shape


def decode_base64(text: str) -> bytes:
    """Read base64 with or without line feeds. Raises ChatError 40013."""
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise ChatError(Code.INVALID_DATA, "The data is not the base64 that its encoding names.") from None
