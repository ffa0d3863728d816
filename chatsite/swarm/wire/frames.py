"""The client's side of WebSocket framing (RFC 6455), as far as a load tool needs it. Pure."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from chatsite.swarm.wire.responses import END_OF_HEADERS, PeerError, split_head


class Opcode(IntEnum):
    """The kinds of frames."""

    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


class Frame(NamedTuple):
    """One whole frame of the server."""

    opcode: int
    payload: bytes


NO_MASK = bytes(4)  # a mask of zeros leaves the payload as it is: allowed, and costs nothing


def handshake(host: str, port: int, path: str) -> bytes:
    """Return the opening request."""
    head = (
        f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: c3dhcm0gc3dhcm0gc3dhcg==\r\nSec-WebSocket-Version: 13"
    )
    return head.encode() + END_OF_HEADERS


def split_handshake(data: bytes) -> bytes | None:
    """Return what follows the answer to the opening request, None while it is not whole. Raises PeerError."""
    if (found := split_head(data)) is None:
        return None
    response, rest = found
    if response.status != 101:
        answer = f"{response.status} {response.reason}".strip()
        hint = " (it is full or busy)" if response.status == 503 else ""
        raise PeerError(f"the server answered {answer!r}{hint} instead of opening a WebSocket", response.retry_after)
    return rest


def frame(opcode: Opcode, payload: bytes) -> bytes:
    """Return a client's frame."""
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | opcode, 0x80 | size))
    elif size < 65536:
        head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, size)
    return head + NO_MASK + payload


def split(data: bytes) -> tuple[list[Frame], bytes]:
    """Return the whole frames in data and the rest. Raises PeerError for fragments and masks."""
    frames: list[Frame] = []
    start, end = 0, len(data)
    while end - start >= 2:
        first, size = data[start], data[start + 1]
        head = 2
        if size & 0x80 or not first & 0x80:
            raise PeerError("the server sent a masked frame or a fragment")
        if size == 126:
            head = 4
            size = int.from_bytes(data[start + 2 : start + 4], "big")
        elif size == 127:
            head = 10
            size = int.from_bytes(data[start + 2 : start + 10], "big")
        if end - start < head + size:
            break
        frames.append(Frame(first & 0x0F, data[start + head : start + head + size]))
        start += head + size
    return frames, data[start:]
