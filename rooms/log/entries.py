"""The entries of a room's log: messages at their places, and how broadcasts carry them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter

import msgspec

from rooms.protocol.wire import Message


class Entry(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """A message at its place in a room's log. Also what gateways tell each other, as MessagePack."""

    room_id: int
    room: str
    serial: int
    pk: int
    wire: Message
    size: int  # bytes, for the tail's limit


serial_of = attrgetter("serial")  # for looking an entry up among others, which are in order
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Entry])


def pack(entries: Sequence[Entry]) -> bytes:
    """Return entries as one broadcast carries them."""
    return _encoder.encode(entries)


def unpack(data: bytes) -> list[Entry]:
    """Return the entries of a broadcast. Raises msgspec.DecodeError."""
    return _decoder.decode(data)


def first_within(entries: Iterable[Entry], max_bytes: int) -> list[Entry]:
    """Return the first entries that fit into so many bytes together; at least one."""
    found: list[Entry] = []
    size = 0
    for entry in entries:
        size += entry.size
        if found and size > max_bytes:
            break
        found.append(entry)
    return found
