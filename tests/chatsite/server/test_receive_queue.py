"""What waits for an application is bounded: frames and bytes of a socket, and bytes of all sockets together."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from chatsite.server.frames import BINARY
from chatsite.server.receive_queue import MAX_BYTES, MAX_FRAMES, OVERHEAD_BYTES, ReceiveQueue
from chatsite.server.websocket import WebSocket, WebSocketFactory
from tests.chatsite.server.test_frames import masked
from tests.patience import PATIENCE

MASK = bytes(4)
READ_BYTES = 65_536  # what comes from the kernel at once


class Transport:
    """A connection whose peer has these bytes for us, and more of them while it is read."""

    connected = True

    def __init__(self) -> None:
        self.is_read = True

    def pauseProducing(self) -> None:
        self.is_read = False

    def resumeProducing(self) -> None:
        self.is_read = True

    def send(self, websocket: Any, data: bytes) -> bytes:
        """Deliver bytes in the pieces of a kernel until the reading stops. Return those that were not read."""
        while data and self.is_read:
            websocket.dataReceived(data[:READ_BYTES])
            data = data[READ_BYTES:]
        return data


@pytest.fixture
async def factory() -> WebSocketFactory:
    made = WebSocketFactory(None)
    made.setProtocolOptions(maxFramePayloadSize=MAX_BYTES, maxMessagePayloadSize=MAX_BYTES)
    made.loop = asyncio.get_running_loop()
    return made


def open_socket(factory: WebSocketFactory) -> tuple[Any, Transport]:
    websocket: Any = factory.make()
    websocket.transport = transport = Transport()
    websocket.application_queue = ReceiveQueue(factory.receive_budget, factory.loop, websocket)
    websocket.state = WebSocket.STATE_OPEN
    return websocket, transport


async def receive_all(websocket: Any, transport: Transport, unread: bytes, count: int) -> list[Any]:
    """Receive as an application does, while the peer sends on."""
    got: list[Any] = []
    while len(got) < count:
        message = await asyncio.wait_for(websocket.application_queue.receive(), PATIENCE)
        got += [message["bytes"]] if message["type"] == "websocket.receive" else []
        unread = transport.send(websocket, unread)
    return got


async def test_large_frames_that_wait_are_bounded_by_their_bytes(factory: WebSocketFactory) -> None:
    sent = [bytes([number]) * 100_000 for number in range(20)]
    websocket, transport = open_socket(factory)
    unread = transport.send(websocket, b"".join(masked(BINARY, payload, MASK) for payload in sent))

    assert factory.receive_budget.used < MAX_BYTES + 100_000 + MAX_FRAMES * OVERHEAD_BYTES
    assert await receive_all(websocket, transport, unread, 20) == sent
    assert factory.receive_budget.used == 0


async def test_tiny_frames_of_one_read_do_not_all_become_messages(factory: WebSocketFactory) -> None:
    websocket, transport = open_socket(factory)
    unread = transport.send(websocket, masked(BINARY, b"", MASK) * 10_000)

    assert factory.receive_budget.used <= MAX_FRAMES * OVERHEAD_BYTES
    assert await receive_all(websocket, transport, unread, 10_000) == [b""] * 10_000


async def test_above_the_budget_of_the_process_each_socket_still_gets_its_turn(factory: WebSocketFactory) -> None:
    factory.receive_budget.max_bytes = 10 * (1_000 + OVERHEAD_BYTES)
    frame = masked(BINARY, bytes(1_000), MASK)
    greedy, greedy_transport = open_socket(factory)
    unread = greedy_transport.send(greedy, frame * 30)
    modest, modest_transport = open_socket(factory)
    modest_transport.send(modest, frame)

    assert factory.receive_budget.used <= 12 * (1_000 + OVERHEAD_BYTES)
    assert not greedy_transport.is_read
    assert factory.receive_budget.pauses == 2
    assert await receive_all(modest, modest_transport, b"", 1) == [bytes(1_000)]
    assert modest_transport.is_read
    assert await receive_all(greedy, greedy_transport, unread, 30) == [bytes(1_000)] * 30
    assert factory.receive_budget.used == 0


async def test_frames_that_come_before_the_handshake_is_answered_are_kept_up_to_one_read(
    factory: WebSocketFactory,
) -> None:
    websocket, transport = open_socket(factory)
    websocket.state = WebSocket.STATE_CONNECTING
    unread = transport.send(websocket, masked(BINARY, b"early", MASK) * 20_000)

    assert len(websocket.unread) == READ_BYTES
    websocket.state = WebSocket.STATE_OPEN
    websocket.resume_reading()
    assert await receive_all(websocket, transport, unread, 20_000) == [b"early"] * 20_000


async def test_an_application_that_ended_leaves_nothing_behind(factory: WebSocketFactory) -> None:
    websocket, transport = open_socket(factory)
    transport.send(websocket, masked(BINARY, b"never received", MASK) * 5)
    websocket.application_queue.drop()

    assert factory.receive_budget.used == 0
