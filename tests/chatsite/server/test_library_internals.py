"""The installed Twisted, autobahn and Daphne have the undocumented parts that the server relies on."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import tomllib
from typing import Any

import pytest
from autobahn.websocket.protocol import WebSocketProtocol
from daphne.http_protocol import WebRequest
from daphne.server import Server as DaphneServer
from daphne.ws_protocol import WebSocketFactory as DaphneFactory
from daphne.ws_protocol import WebSocketProtocol as DaphneWebSocket
from twisted.internet.tcp import Server as TwistedConnection
from twisted.internet.testing import StringTransport

from chatsite.server import library_internals
from chatsite.server.frames import TEXT
from chatsite.server.http import Channel, HTTPFactory, Request
from chatsite.server.library_internals import BareServer, BareWebSocketFactory
from chatsite.server.process import GatewayServer
from chatsite.server.receive_queue import ReceiveBudget, ReceiveQueue
from chatsite.server.transport import Transport
from chatsite.server.websocket import WebSocket, WebSocketFactory
from tests.chatsite.server.test_frames import masked
from tests.chatsite.server.test_incoming import Server
from tests.library_contracts import ROOT, hint, missing, overridden_by_chance, parameters, private_uses
from tests.patience import PATIENCE

MODULE = "chatsite/server/library_internals.py"


def test_every_method_is_there() -> None:
    assert not missing(library_internals.METHODS), hint(MODULE, missing(library_internals.METHODS))


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (TwistedConnection.connectionLost, ["self", "reason"]),
        (TwistedConnection.writeSomeData, ["self", "data"]),
        (WebSocketProtocol._connectionLost, ["self", "reason"]),
        (WebSocketProtocol._dataReceived, ["self", "data"]),
        (WebSocketProtocol._invalid_payload, ["self", "reason"]),
        (WebSocketProtocol.onClose, ["self", "wasClean", "code", "reason"]),
        (WebRequest.gotLength, ["self", "length"]),
        (WebRequest.handleContentChunk, ["self", "data"]),
        (DaphneServer.create_application, ["self", "protocol", "scope"]),
    ],
)
def test_methods_take_what_they_took(function: Any, names: list[str]) -> None:
    assert parameters(function) == names, hint(MODULE, function)


@pytest.mark.parametrize("kind", [Transport, WebSocket, WebSocketFactory, Channel, Request, HTTPFactory, GatewayServer])
def test_no_private_name_of_ours_is_a_library_s_by_chance(kind: type) -> None:
    assert not overridden_by_chance(kind, "chatsite.server"), hint(
        MODULE, overridden_by_chance(kind, "chatsite.server")
    )


def test_no_other_module_reaches_a_private_part() -> None:
    assert not list(private_uses(ROOT / "chatsite" / "server"))


def test_the_releases_are_bounded_from_above() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    bounded = {spec.split(">=")[0] for spec in project["dependencies"] if ",<" in spec}

    assert {"twisted", "autobahn", "daphne", "channels-redis", "redis"} <= bounded


# --- Twisted's connection --------------------------------------------------------------------------------


class Protocol:
    """Takes part in nothing but the end."""

    def connectionLost(self, reason: Any) -> None:
        """Twisted's interface."""


def connected() -> tuple[Transport, socket.socket]:
    """Return a connection whose kernel takes little at once, and its peer."""
    ours, peer = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    peer.setblocking(False)
    return Transport(ours, ("127.0.0.1", 1), Protocol(), lambda _: None, asyncio.get_running_loop()), peer


async def read_all(peer: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += await asyncio.wait_for(asyncio.get_running_loop().sock_recv(peer, 65_536), PATIENCE)
    return data


async def test_a_connection_has_all_attributes_that_twisted_gives_one() -> None:
    ours, peer = connected()
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()) as other,
    ):
        accepted, address = listening.accept()
        genuine = TwistedConnection(accepted, Protocol(), address, None, 1, ours.reactor)
        lacking = [name for name in vars(genuine) if not hasattr(ours, name)]
        genuine.stopReading()
        accepted.close()
        other.close()
    peer.close()

    assert not lacking, hint(MODULE, lacking)


async def test_unsent_counts_every_byte_and_the_rest_of_a_write_goes_out() -> None:
    ours, peer = connected()
    whole = bytes(range(256)) * 4_000
    ours.keep_rest(whole, 1_000)
    assert ours.unsent == len(whole) - 1_000
    ours.write(b"and more")
    assert ours.unsent == len(whole) - 1_000 + len(b"and more")

    got = await read_all(peer, len(whole) - 1_000 + len(b"and more"))
    assert got == whole[1_000:] + b"and more", hint(MODULE, "TcpConnection.doWrite")
    assert ours.unsent == 0
    peer.close()


async def test_a_producer_is_asked_when_nothing_is_unsent() -> None:
    asked: list[int] = []

    class Producer:
        def resumeProducing(self) -> None:
            asked.append(ours.unsent)

        def stopProducing(self) -> None:
            """Twisted's interface."""

    ours, peer = connected()
    ours.keep_rest(bytes(500_000), 0)
    ours.registerProducer(Producer(), False)
    asked.clear()  # Twisted asks at once
    await read_all(peer, 500_000)
    for _ in range(5):
        await asyncio.sleep(0)
    peer.close()

    assert asked == [0], hint(MODULE, "TcpConnection.doWrite")


async def test_a_lost_connection_is_over() -> None:
    ours, peer = connected()
    peer.close()
    assert not ours.is_over
    ours.read_now()

    assert ours.is_over and not ours.connected, hint(MODULE, "TcpConnection.is_over")


# --- autobahn's WebSocket --------------------------------------------------------------------------------


def websocket(factory: BareWebSocketFactory | None = None) -> Any:
    made: Any = (factory or WebSocketFactory(None)).make()
    made.transport = StringTransport()
    made.state = WebSocket.STATE_OPEN
    return made


def test_a_websocket_has_all_attributes_that_autobahn_and_daphne_give_one() -> None:
    factory = DaphneFactory(None)
    factory.setProtocolOptions(openHandshakeTimeout=0)
    genuine = DaphneWebSocket()
    genuine.factory, genuine.transport = factory, StringTransport()
    genuine._connectionMade()
    ours = websocket()
    ours.factory.setProtocolOptions(openHandshakeTimeout=0)
    unused = {"utf8validator"}  # only where utf8validateIncoming is set
    lacking = sorted(name for name in vars(genuine) if name not in unused and not hasattr(ours, name))

    assert not lacking, hint(MODULE, lacking)


def test_options_are_those_of_the_class() -> None:
    factory = WebSocketFactory(None)
    for size in (1_000, 2_000):
        factory.setProtocolOptions(maxFramePayloadSize=size)
        made = websocket(factory)
        assert made.maxFramePayloadSize == size
        assert "maxFramePayloadSize" not in vars(made), hint(MODULE, "CONFIG_ATTRS")


def test_autobahn_says_when_it_has_a_part_of_a_message() -> None:
    whole = masked(0x01, b"a fragment", bytes(4))
    made = websocket()
    assert made.is_between_frames
    made.feed(whole[:5])
    assert not made.is_between_frames, hint(MODULE, "data, current_frame")
    made.feed(whole[5:])
    assert not made.is_between_frames, hint(MODULE, "inside_message")
    made.onMessage = lambda payload, is_binary: None
    made.feed(masked(0x80, b"its end", bytes(4)))
    assert made.is_between_frames, hint(MODULE, "inside_message")


async def test_a_payload_that_is_no_text_ends_the_connection() -> None:
    made = websocket()
    made.transport, peer = connected()
    made.application_queue = ReceiveQueue(ReceiveBudget(), asyncio.get_running_loop(), made)
    made.dataReceived(masked(TEXT, b"\xff", bytes(4)))
    peer.close()

    assert not made.transport.connected, hint(MODULE, "_invalid_payload")


# --- Twisted's and Daphne's HTTP -------------------------------------------------------------------------


def test_forms_are_left_to_django_and_a_channel_says_that_it_serves() -> None:
    server = Server(max_bytes=1_000)
    channel = HTTPFactory(server).buildProtocol(None)
    channel.makeConnection(StringTransport())
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 3\r\n\r\n"
    channel.dataReceived(head)
    assert not channel.is_serving
    channel.dataReceived(b"a=1")

    (request,) = server.served
    assert channel.is_serving, hint(MODULE, "BareChannel")
    assert request.args == {}, hint(MODULE, "BareRequest")
    assert request.has_application
    assert isinstance(request, Request), hint(MODULE, "requestFactory")
    request.finish()
    assert not channel.is_serving, hint(MODULE, "BareChannel")


def test_a_silent_connection_is_ended_in_time() -> None:
    factory = HTTPFactory(Server(max_bytes=1_000))

    assert factory.buildProtocol(None).timeOut == factory.timeOut == 15, hint(MODULE, "timeOut")


# --- Daphne's server -------------------------------------------------------------------------------------


async def test_daphne_s_server_keeps_what_serves_a_request() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    server = BareServer(application, ready=lambda: None)
    server.connections = {}
    request = object()
    server.protocol_connected(request)
    assert server.application_of(request) is None
    server.create_application(request, {"type": "http"})

    serving = server.application_of(request)
    assert serving is not None and list(server.applications()) == [serving], hint(MODULE, "connections")
    serving.cancel()


def test_daphne_s_server_builds_the_factories_that_it_is_given() -> None:
    program = """
from chatsite.server.library_internals import BareHTTPFactory, BareServer, BareWebSocketFactory

class OurHTTP(BareHTTPFactory):
    def __init__(self, server):
        super().__init__(server, silent_seconds=1)

class OurWebSockets(BareWebSocketFactory):
    pass

server = BareServer(None, ready=lambda: None)
server.abort_start = True  # everything but the reactor's own loop
server.run_with(OurHTTP, OurWebSockets)
print(type(server.http_factory).__name__, type(server.ws_factory).__name__)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=ROOT)

    assert done.stdout.split() == ["OurHTTP", "OurWebSockets"], hint(MODULE, "daphne.server.HTTPFactory") + done.stderr
