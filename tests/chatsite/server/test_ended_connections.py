"""A WebSocket that ended gives back its memory at once, without a garbage collection.

Collections are rare on purpose (chatsite.server.process), and those of what has lived for minutes are hours apart. A
circle of references among the parts of a connection would keep them until then: a gateway grows while members come and
go.
"""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest

from chatsite.asgi import serve
from chatsite.server.broadcast import BroadcastSocket
from chatsite.server.handshakes import Handshake
from chatsite.server.http import Channel, HTTPFactory, Request
from chatsite.server.process import GatewayServer
from chatsite.server.receive_queue import ReceiveQueue
from chatsite.server.transport import Transport
from chatsite.server.upgrade import Upgrade
from chatsite.server.websocket import WebSocket, WebSocketFactory
from rooms.access.capabilities import Capability
from rooms.access.grants import Grant
from rooms.connection import consumer
from rooms.connection.attachments import Attachment, Attachments
from rooms.connection.consumer import ChatConsumer
from rooms.connection.publisher import Publisher
from rooms.connection.session import Session
from rooms.errors import ChatError, Code
from rooms.fanout.hub import Hub, Member
from rooms.gateway.starting_points import StartingPoint
from rooms.protocol.wire import Action
from tests.chatsite.server.test_handshakes import PLAIN
from tests.patience import PATIENCE
from tests.rooms.connection.test_attachments import Ending
from tests.rooms.fanout.test_hub import make_hub
from tests.rooms.fanout.test_tail import entry

PARTS = (
    *(Handshake, Channel, Request, Upgrade, Transport, WebSocket, ReceiveQueue, BroadcastSocket),
    *(ChatConsumer, Session, Publisher, Attachments, Attachment, Member, Grant),
)
BEFORE = (Handshake, Channel, Request, Upgrade)  # the handshake is over
UNUSUAL = PLAIN[:-2] + b"Sec-WebSocket-Protocol: chat\r\n\r\n"  # autobahn reads it
CLOSED = b"\x88\x02\x03\xe8"  # the server's frame: 1000
CLOSE = b"\x88\x82\0\0\0\0\x03\xe8"  # the same from a client
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends a reset


class Here(Ending):
    """A gateway with one room."""

    acceptor, server_id = None, "s"

    def __init__(self, hub: Hub) -> None:
        super().__init__()
        self.connections = self
        self.held: dict[str, Session] = {}
        self.its_hub = hub

    def __len__(self) -> int:
        return len(self.held)

    def register(self, session: Session) -> None:
        self.held[session.connection_id] = session

    def unregister(self, session: Session) -> None:
        self.held.pop(session.connection_id, None)

    def recheck(self, session: Session) -> None:
        """Nothing was revoked."""

    async def hub(self, room: Any) -> Hub:
        return self.its_hub

    async def find(self, *_: Any) -> StartingPoint:
        return StartingPoint(None)


@pytest.fixture
async def here(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Here]:
    """Serve on a port of its own, whose address is `here.address`."""
    here = Here(make_hub())

    async def authenticate(credentials: Any) -> Grant:
        expires_at = asyncio.get_running_loop().time() + 2e9
        return Grant(client_id="a", capability=Capability.parse({"*": ["*"]}), key_name="k", expires_at=expires_at)

    monkeypatch.setattr(consumer, "gateway", SimpleNamespace(current=lambda: here))
    monkeypatch.setattr(consumer, "authenticate", authenticate)
    monkeypatch.setattr(GatewayServer, "_begin", lambda server: server.listener.start())
    monkeypatch.setattr(GatewayServer, "before_shutdown", lambda server, work: None)
    # Twisted's own runs on another loop, which stands still.
    monkeypatch.setattr(Transport, "reactor", SimpleNamespace(callLater=asyncio.get_running_loop().call_later))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        server = GatewayServer(serve, listening)
        server.ws_factory = WebSocketFactory(server, server="")
        server.ws_factory.setProtocolOptions(maxFramePayloadSize=10_000, maxMessagePayloadSize=10_000)
        server.http_factory = HTTPFactory(server)
        server.connections = {}
        server.ready_callable()
        here.forget_requests = server.connections.clear  # as Daphne does each second
        here.address = listening.getsockname()
        yield here
        server.listener.stop()


async def leave(here: Here, peer: socket.socket) -> None:
    peer.close()


async def reset(here: Here, peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    peer.close()


async def say_goodbye(here: Here, peer: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(PATIENCE):
        await loop.sock_sendall(peer, CLOSE)
        with suppress(ConnectionResetError):
            while await loop.sock_recv(peer, 65536):
                pass
    peer.close()


async def be_sent_away(here: Here, peer: socket.socket) -> None:
    next(iter(here.held.values())).end(ChatError(Code.TOKEN_EXPIRED, "It has expired."))
    await read(peer, CLOSED)
    await say_goodbye(here, peer)


async def fall_behind(here: Here, peer: socket.socket) -> None:
    """Leave unread what was published, until the kernel takes no more of it."""
    async with asyncio.timeout(PATIENCE):
        while not here.its_hub.lagging:
            behind = here.its_hub.tail.position
            here.its_hub.receive([entry(behind + place, size=1) for place in range(1, 500)])
            await asyncio.sleep(0)
    await leave(here, peer)


@pytest.mark.parametrize("request_head", [PLAIN, UNUSUAL], ids=["plain", "unusual"])
@pytest.mark.parametrize("ending", [leave, reset, say_goodbye, be_sent_away, fall_behind])
async def test_a_websocket_that_ended_leaves_nothing_to_the_garbage_collector(
    here: Here, ending: Callable[[Here, socket.socket], Awaitable[None]], request_head: bytes
) -> None:
    gc.collect()
    gc.freeze()  # what is there by now is not looked at
    gc.disable()
    try:
        peer = await connect(here, request_head)
        assert living() == Counter({part.__name__: 1 for part in PARTS if part not in BEFORE})
        await ending(here, peer)
        await until(lambda: not here.held)
        await until(lambda: not living())
    finally:
        left = living()
        gc.enable()
        gc.unfreeze()
    assert not left


async def connect(here: Here, request_head: bytes) -> socket.socket:
    """Return the socket of a member that has attached and received a message."""
    loop = asyncio.get_running_loop()
    peer = socket.create_connection(here.address)
    peer.setblocking(False)
    await loop.sock_sendall(peer, request_head)
    await read(peer, b'"connectionKey"')
    await loop.sock_sendall(peer, frame({"action": int(Action.ATTACH), "channel": "lobby"}))
    await read(peer, b"channelSerial")
    here.its_hub.receive([entry(here.its_hub.tail.position + 1)])
    await read(peer, b'"messages"')
    here.forget_requests()
    return peer


async def read(peer: socket.socket, what: bytes) -> None:
    """Read until that came."""
    got = b""
    async with asyncio.timeout(PATIENCE):
        while what not in got:
            part = await asyncio.get_running_loop().sock_recv(peer, 65536)
            assert part, got
            got += part


async def until(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds, 3 s at most."""
    loop = asyncio.get_running_loop()
    give_up = loop.time() + 3
    while not condition() and loop.time() < give_up:
        await asyncio.sleep(0.01)


def frame(message: dict[str, Any]) -> bytes:
    """Return a client's frame."""
    payload = json.dumps(message).encode()
    return bytes((0x81, 0x80 + len(payload), 0, 0, 0, 0)) + payload


def living() -> Counter[str]:
    """Return how many there are of each part of a connection."""
    return Counter(type(each).__name__ for each in gc.get_objects() if type(each) in PARTS)
