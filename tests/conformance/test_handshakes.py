"""The server reads plain requests and small frames a shorter way than others: no client may notice which."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from chatsite.swarm.wire.frames import Frame, Opcode, frame, handshake, split, split_handshake
from rooms.protocol.wire import Action
from tests.instance import Instance
from tests.patience import PATIENCE

CONTINUATION: Any = 0
HEARTBEAT = frame(Opcode.TEXT, json.dumps({"action": Action.HEARTBEAT, "id": "h"}).encode())


class Peer:
    """A client that sends bytes as they are, and reads frames."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._rest = b""
        self._frames: list[Frame] = []

    def open(self) -> None:
        """Read the answer to the handshake and CONNECTED."""
        data = b""
        while (rest := split_handshake(data)) is None:
            data += self._receive()
        self._rest = rest
        assert self.message()["action"] == Action.CONNECTED

    def frame(self) -> Frame:
        while not self._frames:
            self._frames, self._rest = split(self._rest)
            if not self._frames:
                self._rest += self._receive()
        return self._frames.pop(0)

    def message(self) -> dict[str, object]:
        return dict(json.loads(self.frame().payload))

    def _receive(self) -> bytes:
        received = self.connection.recv(65_536)
        assert received, "the server closed the connection"
        return received


@pytest.fixture
def request_bytes(instance: Instance, key: str) -> bytes:
    return handshake("127.0.0.1", instance.port, f"/?key={key}&v=3")


@pytest.fixture
def peer(instance: Instance) -> Iterator[Peer]:
    with closing(socket.create_connection(("127.0.0.1", instance.port), timeout=PATIENCE)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield Peer(connection)


@pytest.mark.parametrize(
    "more", [b"", b"X_Odd: 1\r\n", b"Sec-WebSocket-Protocol: one, two\r\n", b"Content-Length: 0\r\n"]
)
def test_plain_and_unusual_requests_open_the_same_conversation(peer: Peer, request_bytes: bytes, more: bytes) -> None:
    peer.connection.sendall(request_bytes[:-2] + more + b"\r\n")
    peer.open()
    peer.connection.sendall(HEARTBEAT)

    assert peer.message() == {"action": Action.HEARTBEAT, "id": "h"}


def test_a_request_in_single_bytes_and_one_with_frames_right_behind_it_are_read(
    peer: Peer, request_bytes: bytes
) -> None:
    for place in range(len(request_bytes)):
        peer.connection.sendall(request_bytes[place : place + 1])
    peer.open()


def test_frames_that_come_with_the_request_are_answered(peer: Peer, request_bytes: bytes) -> None:
    peer.connection.sendall(request_bytes + HEARTBEAT + HEARTBEAT[:5])
    peer.open()
    assert peer.message()["action"] == Action.HEARTBEAT
    peer.connection.sendall(HEARTBEAT[5:])
    assert peer.message()["action"] == Action.HEARTBEAT


def fragments(payload: bytes) -> bytes:
    """Return a text in two frames, and a ping between them."""
    first, second = frame(Opcode.TEXT, payload[:7]), frame(CONTINUATION, payload[7:])
    return bytes((first[0] & 0x7F,)) + first[1:] + frame(Opcode.PING, b"p") + second


def test_small_large_and_fragmented_frames_say_the_same(peer: Peer, request_bytes: bytes) -> None:
    peer.connection.sendall(request_bytes)
    peer.open()
    text = json.dumps({"action": Action.HEARTBEAT, "id": "h"}).encode()
    large = json.dumps({"action": Action.HEARTBEAT, "id": "h" * 70_000}).encode()
    for sent in (
        frame(Opcode.TEXT, text),
        HEARTBEAT * 3,
        frame(Opcode.PONG, b""),
        frame(Opcode.PONG, b"x") + HEARTBEAT,
    ):
        peer.connection.sendall(sent)
    peer.connection.sendall(frame(Opcode.TEXT, large))
    assert [peer.message()["id"] for _ in range(6)] == ["h"] * 5 + ["h" * 70_000]

    peer.connection.sendall(fragments(text))
    found = {(each.opcode, each.payload) for each in (peer.frame(), peer.frame())}
    assert (Opcode.PONG, b"p") in found
    assert any(opcode == Opcode.TEXT and b'"id":"h"' in payload for opcode, payload in found)


def test_a_close_frame_is_answered_with_its_code(peer: Peer, request_bytes: bytes) -> None:
    peer.connection.sendall(request_bytes)
    peer.open()
    peer.connection.sendall(frame(Opcode.CLOSE, b"\x03\xe8"))

    assert peer.frame() == Frame(Opcode.CLOSE, b"\x03\xe8")


@pytest.mark.parametrize("action", [Action.CLOSE, Action.DETACH, Action.HEARTBEAT])
def test_no_frame_follows_a_close_frame(peer: Peer, request_bytes: bytes, action: Action) -> None:
    """Browsers report one as an error of the server (RFC 6455, section 5.5.1)."""
    peer.connection.sendall(request_bytes)
    peer.open()
    asked = json.dumps({"action": action, "channel": "lobby"}).encode()
    peer.connection.sendall(frame(Opcode.TEXT, asked) + frame(Opcode.CLOSE, b"\x03\xe8"))
    opcodes = []
    with pytest.raises(AssertionError, match="closed the connection"):
        while True:
            opcodes.append(peer.frame().opcode)
    assert opcodes[-1] == Opcode.CLOSE
    assert opcodes.count(Opcode.CLOSE) == 1


@pytest.mark.parametrize(
    "sent",
    [
        frame(Opcode.TEXT, b"\xff"),
        frame(Opcode.TEXT, b"\xff" * 200),
        b"\x81\x01x",
        bytes((0xC1,)) + HEARTBEAT[1:],
        frame(CONTINUATION, b"x"),
    ],
    ids=["not UTF-8", "not UTF-8, longer", "not masked", "a reserved bit", "nothing to continue"],
)
def test_who_breaks_the_protocol_is_cut_off(peer: Peer, request_bytes: bytes, sent: bytes) -> None:
    peer.connection.sendall(request_bytes)
    peer.open()
    peer.connection.sendall(sent)

    with pytest.raises((AssertionError, ConnectionResetError)):
        peer.frame()
