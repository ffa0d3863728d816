"""The entries of a room's log, and their encoding in broadcasts between gateways. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter

import msgspec

from rooms.protocol.wire import Message


class Entry(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """A published message at its place in a room's log. Broadcasts carry it as a MessagePack array."""

    room_id: int
    room: str
    serial: int
    pk: int
    wire: Message
    size: int  # bytes, for the tail's limit


serial_of = attrgetter("serial")  # the key for binary searches among entries
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Entry])


def pack(entries: Sequence[Entry]) -> bytes:
    """Encode entries for a broadcast."""
    return _encoder.encode(entries)


def unpack(data: bytes) -> list[Entry]:
    """Decode the entries of a broadcast. Raises msgspec.DecodeError."""
    return _decoder.decode(data)


def first_within(entries: Iterable[Entry], max_bytes: int) -> list[Entry]:
    """Return the first entries that fit into `max_bytes` together; at least one."""
    first: list[Entry] = []
    size = 0
    for entry in entries:
        size += entry.size
        if first and size > max_bytes:
            break
        first.append(entry)
    return first
