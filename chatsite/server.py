"""Daphne as a gateway: the same server, with a fast way to write frames and bounds on what a peer may pile up.

What it adds to daphne.server.Server:
- the ASGI scope of a WebSocket offers a rooms.sockets.Socket, under extensions, as "broadcast";
- a socket whose frames come faster than they are handled is not read for a while;
- a cap on connections, time limits for half-sent requests, and a limit for their bodies.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import socket as sockets
from collections.abc import Awaitable, Callable
from typing import Any

import daphne.server
from daphne.http_protocol import HTTPFactory, WebRequest
from daphne.server import Server, reactor
from daphne.ws_protocol import WebSocketFactory, WebSocketProtocol
from django.conf import settings
from twisted.internet import defer
from twisted.internet.interfaces import IPullProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from rooms import gateway
from rooms.sockets import Batch, Framing

logger = logging.getLogger(__name__)

INBOX_FRAMES = 32  # frames of one connection that may wait to be handled; then its socket is not read
HEADER_SECONDS = 15  # a request that stays silent for longer before it is whole is dropped
PING_SECONDS = 10
PONG_SECONDS = 30
HANDSHAKE_SECONDS = 10
FINISH_SECONDS = 2.0
HTTP_EXTRA_CONNECTIONS = 500  # beyond the WebSockets' cap
_TOO_LARGE_BODY = b'{"error":{"code":40009,"statusCode":413,"message":"The request body is too large."}}'
TOO_LARGE = (
    b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Type: application/json\r\n"
    b"X-Ably-Errorcode: 40009\r\nContent-Length: %d\r\n\r\n%b" % (len(_TOO_LARGE_BODY), _TOO_LARGE_BODY)
)


@implementer(IPullProducer)
class BroadcastSocket:
    """A rooms.sockets.Socket on a Twisted transport.

    While Twisted's buffer is empty a batch goes straight into the kernel, without the reactor's detour; what
    the kernel does not take waits in Twisted's buffer, and the hub is refused until that is empty.
    """

    framing = Framing.FRAMED

    def __init__(self, transport: Any) -> None:
        self.inbox = 0
        self._transport = transport
        self._send: Callable[[bytes], int] = transport.socket.send
        self._callbacks: list[Callable[[], None]] = []

    @property
    def unsent(self) -> int:
        """Bytes that wait in this process for the peer to read."""
        transport = self._transport
        return int(len(transport.dataBuffer) - transport.offset + transport._tempDataLen)

    def write(self, batch: Batch) -> bool:
        """See rooms.sockets.Socket."""
        transport = self._transport
        if transport._tempDataBuffer or transport.dataBuffer or not transport.connected:
            return False
        assert isinstance(batch, bytes)
        try:
            sent = self._send(batch)
        except BlockingIOError:
            sent = 0
        except OSError:
            transport.abortConnection()
            return False
        if sent < len(batch):
            transport.write(batch[sent:])
        return True

    def reply(self, piece: bytes, *, binary: bool) -> None:
        """See rooms.sockets.Socket."""
        if self.write(piece):
            return
        if self.unsent > settings.CONNECTION_MAX_UNSENT_BYTES:
            self._transport.abortConnection()
        else:
            self._transport.write(piece)

    def on_writable(self, callback: Callable[[], None]) -> None:
        """See rooms.sockets.Socket."""
        self._callbacks.append(callback)
        if len(self._callbacks) == 1:
            self._transport.registerProducer(self, False)

    # Twisted calls a pull producer whenever its buffer is empty: that is all that "writable" needs.

    def resumeProducing(self) -> None:
        """Call back who waits."""
        if self.unsent or not self._transport.connected:
            return
        callbacks, self._callbacks = self._callbacks, []
        self._transport.unregisterProducer()
        for callback in callbacks:
            callback()

    def stopProducing(self) -> None:
        """Forget who waits: the connection is lost."""
        self._callbacks.clear()


class GatewayWebSocket(WebSocketProtocol):  # type: ignore[misc] # Daphne ships no types
    """A WebSocket whose frames are taken no faster than they are handled."""

    broadcast: BroadcastSocket | None = None

    def onConnect(self, request: Any) -> Any:
        """Offer the broadcast socket. HTTP's producer goes: the socket is the WebSocket's alone from here."""
        self.transport.unregisterProducer()
        if isinstance(getattr(self.transport, "socket", None), sockets.socket):
            self.broadcast = BroadcastSocket(self.transport)
        return super().onConnect(request)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Queue a frame, and stop reading where too many wait."""
        super().onMessage(payload, isBinary)
        if self.broadcast is not None:
            self.broadcast.inbox += 1
            if self.broadcast.inbox == INBOX_FRAMES:
                self.transport.pauseProducing()

    def serverClose(self, code: int | None = None) -> None:
        """Close with any code: Daphne's way refuses all but 1000 and 3000 to 4999, and leaves the socket open."""
        if self.state == self.STATE_OPEN:
            self.sendCloseFrame(code=1000 if code is None else code)

    def handled(self) -> None:
        """Note that the application took a frame."""
        if self.broadcast is not None and self.broadcast.inbox:
            self.broadcast.inbox -= 1
            if self.broadcast.inbox == INBOX_FRAMES // 2 and self.transport.connected:
                self.transport.resumeProducing()


class GatewayWebSocketFactory(WebSocketFactory):  # type: ignore[misc] # Daphne ships no types
    """Makes GatewayWebSockets."""

    protocol = GatewayWebSocket


class GatewayRequest(WebRequest):  # type: ignore[misc] # Daphne ships no types
    """An HTTP request whose body is dropped at its limit, before it takes memory or disk.

    Daphne has the whole body in memory before the application hears of the request, whatever its limits.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Twisted would read forms too, for nobody, and all others wait meanwhile: a second for 2 MB.
        self._parsePOSTFormSubmission = False
        self._room = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        self._is_refused = False

    def gotLength(self, length: int | None) -> None:
        """Refuse a body that says that it is too large."""
        super().gotLength(length)
        if length is not None and length > self._room:
            self._refuse()

    def handleContentChunk(self, data: bytes) -> None:
        """Keep a part of the body, or refuse one that turns out to be too large."""
        if len(data) > self._room:
            self._refuse()
        else:
            self._room -= len(data)
            super().handleContentChunk(data)

    def _refuse(self) -> None:
        if not self._is_refused:
            self._is_refused = True
            self.channel.transport.write(TOO_LARGE)
            self.channel.loseConnection()


class GatewayHTTPFactory(HTTPFactory):  # type: ignore[misc] # Daphne ships no types
    """Accepts connections up to the gateway's cap, and drops those that fall silent in the middle of a request."""

    def __init__(self, server: GatewayServer) -> None:
        super().__init__(server)
        self.timeOut = HEADER_SECONDS
        self.cap = settings.CONNECTION_MAX_PER_GATEWAY + HTTP_EXTRA_CONNECTIONS

    def buildProtocol(self, addr: Any) -> Any:
        """Make the protocol of a new connection; None closes it at once."""
        if len(self.server.connections) >= self.cap:
            return None
        protocol = super().buildProtocol(addr)
        protocol.requestFactory = GatewayRequest
        return protocol


class GatewayServer(Server):  # type: ignore[misc] # Daphne ships no types
    """Daphne's server with the parts above, on a listening socket that is handed to it."""

    def __init__(self, application: Any, listener: sockets.socket) -> None:
        super().__init__(
            throttled(application),
            endpoints=["adopted"],
            ping_interval=PING_SECONDS,
            ping_timeout=PONG_SECONDS,
            websocket_handshake_timeout=HANDSHAKE_SECONDS,
            websocket_max_message_size=settings.FRAME_MAX_BYTES,
            websocket_max_frame_size=settings.FRAME_MAX_BYTES,
            websocket_timeout=-1,
            ready_callable=self._listen,
            verbosity=0,
            server_name="",
        )
        self.endpoints: list[str] = []  # Daphne insists on one that it can name; ours is open already
        self._listener = listener

    def create_application(self, protocol: Any, scope: dict[str, Any]) -> Any:
        """Offer the broadcast socket in a WebSocket's scope."""
        if isinstance(protocol, GatewayWebSocket) and protocol.broadcast is not None:
            scope["extensions"] = {"broadcast": protocol.broadcast, "handled": protocol.handled}
        return super().create_application(protocol, scope)

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        # Daphne's run() builds its factories by these names, and offers no other way to give it ours.
        daphne.server.HTTPFactory, daphne.server.WebSocketFactory = GatewayHTTPFactory, GatewayWebSocketFactory
        # What is loaded by now stays; collecting it again and again is the largest cost of connecting.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        super().run()

    def _listen(self) -> None:
        reactor.adoptStreamPort(self._listener.fileno(), self._listener.family, self.http_factory)
        reactor.callLater(0, gateway.current)
        reactor.addSystemEventTrigger("before", "shutdown", self._finish)

    def _finish(self) -> defer.Deferred[Any]:
        """Make durable what was accepted, before the connections are dropped."""
        closing = asyncio.wait_for(gateway.current().close(), FINISH_SECONDS)
        done: defer.Deferred[Any] = defer.Deferred.fromFuture(asyncio.ensure_future(closing))
        done.addErrback(_note_left_over)
        return done


def _note_left_over(failure: Failure) -> None:
    logger.warning("stopped with work left over (%s)", failure.getErrorMessage())


def throttled(application: Any) -> Any:
    """Wrap an ASGI application so that the server knows how many of a socket's frames it has taken."""

    async def wrapper(
        scope: dict[str, Any], receive: Callable[[], Awaitable[dict[str, Any]]], send: Callable[..., Awaitable[None]]
    ) -> None:
        handled = (scope.get("extensions") or {}).get("handled")
        if handled is None:
            await application(scope, receive, send)
            return

        async def receive_and_count() -> dict[str, Any]:
            message = await receive()
            if message["type"] == "websocket.receive":
                handled()
            return message

        await application(scope, receive_and_count, send)

    return wrapper
