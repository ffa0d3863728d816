"""What comes in takes a bounded part of the process' memory: bodies are answered 503, WebSockets closed with 1013."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.testing import StringTransport

from chatsite.server.frames import BINARY
from chatsite.server.http import HTTPFactory
from chatsite.server.incoming import Incoming
from chatsite.server.receive_queue import ReceiveQueue
from chatsite.server.websocket import WebSocket, WebSocketFactory
from tests.chatsite.server.test_frames import masked
from tests.patience import PATIENCE


class Slow:
    def __init__(self) -> None:
        self.is_refused = False

    def refuse_for_memory(self) -> None:
        self.is_refused = True


def test_what_came_in_slowly_makes_room_for_others() -> None:
    bodies = Incoming(largest_bytes=1, max_bytes=100)
    slow, quick = Slow(), Slow()
    assert bodies.grow(slow, 90)
    assert bodies.grow(quick, 20)

    assert slow.is_refused and not quick.is_refused
    assert (bodies.used, bodies.refused) == (20, 1)


def test_whole_bodies_are_kept_and_newcomers_refused() -> None:
    bodies = Incoming(largest_bytes=1, max_bytes=100)
    whole, newcomer = Slow(), Slow()
    assert bodies.grow(whole, 90)
    bodies.complete(whole)
    assert not bodies.grow(newcomer, 20)
    assert bodies.used == 90

    bodies.release(whole)
    assert bodies.grow(newcomer, 20)
    assert not whole.is_refused


@given(st.lists(st.tuples(st.sampled_from(["grow", "complete", "release"]), st.integers(0, 4), st.integers(0, 60))))
def test_the_limit_holds_and_nothing_is_counted_twice(steps: list[tuple[str, int, int]]) -> None:
    bodies = Incoming(largest_bytes=1, max_bytes=100)
    requests = [Slow() for _ in range(5)]
    for step, number, size in steps:
        if step == "grow" and not requests[number].is_refused:
            bodies.grow(requests[number], size)
        elif step != "grow":
            getattr(bodies, step)(requests[number])
        assert 0 <= bodies.used <= 100
    for request in requests:
        bodies.release(request)
    assert bodies.used == 0


class Server:
    """As much of Daphne's server as a request asks for."""

    proxy_forwarded_address_header = None
    root_path = server_name = ""
    request_buffer_size = 8192

    def __init__(self, *, max_bytes: int) -> None:
        self.request_bodies = Incoming(largest_bytes=1, max_bytes=max_bytes)
        self.served: list[Any] = []

    def protocol_connected(self, protocol: Any) -> None:
        """Daphne's interface."""

    def protocol_disconnected(self, protocol: Any) -> None:
        """Daphne's interface."""

    def create_application(self, protocol: Any, scope: dict[str, Any]) -> Any:
        self.served.append(protocol)
        return self

    def put_nowait(self, message: dict[str, Any]) -> None:
        """The application's queue."""


def post(server: Server, body: bytes, *, of: int | None = None) -> StringTransport:
    """Send a request of which this much of the body has come. Return the peer's side of it."""
    channel = HTTPFactory(server).buildProtocol(None)
    transport = StringTransport()
    channel.makeConnection(transport)
    head = b"POST /channels/lobby/messages HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
    channel.dataReceived(head % (of or len(body)) + body)
    return transport


def test_bodies_that_have_no_room_are_refused_and_the_others_served() -> None:
    server = Server(max_bytes=100_000)
    slow = post(server, bytes(60_000), of=200_000)
    served = post(server, bytes(60_000))
    late = post(server, bytes(60_000))

    assert slow.value().startswith(b"HTTP/1.1 503 ") and b"Retry-After: 1\r\n" in slow.value()
    assert late.value().startswith(b"HTTP/1.1 503 ")
    assert served.value() == b"" and len(server.served) == 1
    assert server.request_bodies.used == 60_000

    server.request_bodies.release(server.served[0])  # its application ended
    post(server, bytes(60_000))
    assert len(server.served) == 2


def test_a_body_that_ends_with_its_connection_is_forgotten() -> None:
    server = Server(max_bytes=100_000)
    channel = HTTPFactory(server).buildProtocol(None)
    channel.makeConnection(StringTransport())
    channel.dataReceived(b"POST /channels HTTP/1.1\r\nHost: a\r\nContent-Length: 9000\r\n\r\n" + bytes(5_000))
    assert server.request_bodies.used == 5_000
    channel.connectionLost(None)

    assert server.request_bodies.used == 0


class Wire(StringTransport):
    """A WebSocket's transport."""

    connected = True

    def loseConnection(self) -> None:
        self.connected = False


async def test_unfinished_messages_have_a_bound_and_the_slowest_is_closed() -> None:
    factory = WebSocketFactory(None)
    factory.setProtocolOptions(maxFramePayloadSize=100_000, maxMessagePayloadSize=100_000)
    factory.unfinished = Incoming(largest_bytes=1, max_bytes=170_000)
    sockets: list[Any] = []
    for _ in range(3):
        websocket: Any = factory.make()
        websocket.transport, websocket.state = Wire(), WebSocket.STATE_OPEN
        websocket.application_queue = ReceiveQueue(factory.receive_budget, asyncio.get_running_loop(), websocket)
        websocket.dataReceived(masked(BINARY, bytes(80_000), bytes(4))[:60_000])
        sockets.append(websocket)
    slow, *others = sockets

    assert slow.transport.value()[2:4] == (1013).to_bytes(2, "big") and not slow.transport.connected
    assert factory.unfinished.used == 120_000 and factory.unfinished.refused == 1
    for websocket in others:
        websocket.dataReceived(masked(BINARY, bytes(80_000), bytes(4))[60_000:])
        _, message = [await asyncio.wait_for(websocket.application_queue.receive(), PATIENCE) for _ in range(2)]
        assert len(message["bytes"]) == 80_000
    assert factory.unfinished.used == 0
