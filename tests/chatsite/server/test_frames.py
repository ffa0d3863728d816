"""The short way of reading frames finds what RFC 6455 says, in whatever pieces they come."""

from __future__ import annotations

import os
import struct
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from chatsite.server.frames import BINARY, PONG, TEXT, read_plain
from chatsite.server.websocket import WebSocket, WebSocketFactory

PING, CONTINUATION = 0x89, 0x80
payloads = st.binary(max_size=300) | st.integers(0, 66_000).map(os.urandom)


def masked(first: int, payload: bytes, mask: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        head = bytes((first, 0x80 | size))
    elif size < 65_536:
        head = struct.pack("!BBH", first, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, size)
    return head + mask + bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))


@given(st.sampled_from([TEXT, BINARY]), payloads, st.binary(min_size=4, max_size=4), st.binary(max_size=9))
@settings(max_examples=50, deadline=None)
def test_a_plain_frame_is_read_with_its_end(first: int, payload: bytes, mask: bytes, rest: bytes) -> None:
    frame = masked(first, payload, mask)
    expected = (first, payload, len(frame) + 2) if len(payload) < 65_536 else None

    assert read_plain(b"ab" + frame + rest, 2, max_bytes=70_000) == expected
    assert read_plain(frame[:-1], 0, max_bytes=70_000) is None


def test_what_is_not_plain_is_left_to_others() -> None:
    mask = bytes(4)
    for frame in (
        masked(PING, b"", mask),
        masked(0x01, b"a fragment", mask),
        masked(0xC1, b"a reserved bit", mask),
        bytes((TEXT, 4)) + b"plain",  # not masked
        struct.pack("!BBH", TEXT, 0x80 | 126, 5) + mask + b"12345",  # a long way to say a short length
        masked(PONG, bytes(126), mask),
        masked(TEXT, bytes(2_000), mask),  # more than is allowed
    ):
        assert read_plain(frame, 0, max_bytes=1_000) is None


class Wire:
    """A transport of which only what a frame does is looked at."""

    def __init__(self) -> None:
        self.connected = True

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments, **options: None


frames = st.tuples(
    st.sampled_from([TEXT, BINARY, PONG, PING, CONTINUATION]),
    st.text("aé", max_size=90),
    st.binary(min_size=4, max_size=4),
)


@given(st.lists(frames, max_size=12), st.lists(st.integers(1, 400), max_size=30))
@settings(max_examples=60, deadline=None)
def test_messages_arrive_in_order_in_whatever_pieces_their_frames_come(sent: list[Any], cuts: list[int]) -> None:
    stream, expected = b"", []
    for first, text, mask in sent:
        if first == CONTINUATION:  # a message in two fragments
            stream += masked(TEXT & 0x7F, text.encode(), mask) + masked(CONTINUATION, b"end", mask)
            expected.append((text + "end").encode())
        elif first in (PING, PONG):
            stream += masked(first, text.encode()[:120], mask)
        else:
            stream += masked(first, text.encode(), mask)
            expected.append(text.encode())
    got: list[bytes] = []
    factory = WebSocketFactory(None)
    factory.setProtocolOptions(maxFramePayloadSize=100_000, maxMessagePayloadSize=100_000)
    websocket: Any = factory.make()
    websocket.transport = Wire()
    websocket.state = WebSocket.STATE_OPEN
    websocket.onMessage = lambda payload, is_binary: got.append(payload)
    for cut in [*cuts, len(stream)]:
        if stream:
            websocket.dataReceived(stream[:cut])
        stream = stream[cut:]

    assert got == expected


def test_pongs_go_the_way_of_replies_which_has_a_bound() -> None:
    replies: list[bytes] = []
    websocket: Any = WebSocketFactory(None).make()
    websocket.state = WebSocket.STATE_OPEN
    websocket.broadcast = Wire()
    websocket.broadcast.reply = lambda piece, *, binary: replies.append(piece)
    websocket.onPing(b"are you there")

    assert replies == [bytes((PONG, 13)) + b"are you there"]
