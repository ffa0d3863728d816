"""Connections without a whole request are few, and each for a while only."""

from __future__ import annotations

from typing import Any

import pytest

from chatsite.server.handshakes import CROWDED_SECONDS, HEADER_SECONDS, Handshakes

PLAIN = (
    b"GET /?v=3 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class Transport:
    """A connection that notes what is done to it."""

    def __init__(self) -> None:
        self.is_aborted = self.is_closed = False
        self.written = b""

    def abortConnection(self) -> None:
        self.is_aborted = True

    def write(self, data: bytes) -> None:
        self.written += data

    def loseConnection(self) -> None:
        self.is_closed = True


class Hall:
    """Handshakes, and what they handed over."""

    def __init__(self) -> None:
        self.websockets: list[tuple[Any, bytes]] = []
        self.requests: list[tuple[Any, bytes]] = []
        self.is_full = False
        self.handshakes = Handshakes(
            lambda transport, upgrade, rest: self.websockets.append((transport, rest)),
            lambda transport, data: self.requests.append((transport, data)),
            lambda: self.is_full,
        )

    def accept(self, now: float) -> tuple[Any, Transport]:
        transport: Any = Transport()
        handshake = self.handshakes.make(now)
        handshake.makeConnection(transport)
        return handshake, transport


def test_a_head_is_handed_over_when_it_is_whole_with_what_comes_behind_it() -> None:
    hall = Hall()
    handshake, transport = hall.accept(0.0)
    for place in range(len(PLAIN) - 1):
        handshake.dataReceived(PLAIN[place : place + 1])
    assert len(hall.handshakes) == 1
    handshake.dataReceived(PLAIN[-1:] + b"frame")

    assert hall.websockets == [(transport, b"frame")]
    assert len(hall.handshakes) == 0


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"nonsense\r\n\r\n", b"x" * 20_000])
def test_all_else_is_handed_to_http_as_it_came(data: bytes) -> None:
    hall = Hall()
    handshake, transport = hall.accept(0.0)
    handshake.dataReceived(data)

    assert hall.requests == [(transport, data)]
    assert len(hall.handshakes) == 0


def test_who_is_late_is_dropped_however_much_it_sends() -> None:
    hall = Hall()
    early, first = hall.accept(0.0)
    _, second = hall.accept(1.0)
    early.dataReceived(b"GET / HT")
    hall.handshakes.drop_late(HEADER_SECONDS + 0.5)

    assert (first.is_aborted, second.is_aborted) == (True, False)
    assert (len(hall.handshakes), hall.handshakes.dropped) == (1, 1)


def test_where_all_places_are_taken_a_newcomer_waits_until_the_oldest_is_late_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("chatsite.server.handshakes.HANDSHAKES_MAX_PER_GATEWAY", 2)
    hall = Hall()
    assert hall.handshakes.make_room(0.0)
    _, oldest = hall.accept(0.0)
    hall.accept(0.1)

    assert not hall.handshakes.make_room(CROWDED_SECONDS - 0.1)
    assert not oldest.is_aborted
    assert hall.handshakes.make_room(CROWDED_SECONDS)
    assert oldest.is_aborted


def test_a_full_gateway_refuses_websockets_and_serves_requests() -> None:
    hall = Hall()
    hall.is_full = True
    handshake, transport = hall.accept(0.0)
    handshake.dataReceived(PLAIN)
    hall.accept(0.0)[0].dataReceived(b"GET /healthz HTTP/1.1\r\n\r\n")

    assert transport.written.startswith(b"HTTP/1.1 503 ")
    assert transport.is_closed
    assert (hall.handshakes.refused, len(hall.websockets), len(hall.requests)) == (1, 0, 1)
