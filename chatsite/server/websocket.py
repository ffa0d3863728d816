"""A WebSocket: plain requests and frames are handled here, all others by autobahn.

What autobahn and Daphne set up for each connection are defaults of the class here: most connections never change them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from django.conf import settings
from twisted.internet.defer import Deferred

from chatsite.server.broadcast import BroadcastSocket
from chatsite.server.frames import BINARY, PONG, read_plain
from chatsite.server.incoming import Incoming
from chatsite.server.library_internals import BareWebSocket, BareWebSocketFactory
from chatsite.server.receive_queue import ReceiveBudget, ReceiveQueue
from chatsite.server.transport import Transport
from chatsite.server.upgrade import Upgrade

logger = logging.getLogger(__name__)

AUTOBAHN_BYTES = 4_096  # given to autobahn at once, which reads all frames in it whether there is room for them or not


class WebSocket(BareWebSocket):
    """One WebSocket. It is opened by `open`, or by autobahn where the request is not a plain one."""

    broadcast: BroadcastSocket | None = None
    application_queue: ReceiveQueue | None = None
    unread = b""  # came while the queue was full, or before the handshake was answered
    is_paused = False
    is_counted = False  # as one on which a message is coming in
    response = b""  # accepts the handshake of a plain request; empty once it was sent

    def open(self, transport: Transport, upgrade: Upgrade, rest: bytes) -> None:
        """Take over a connection on which a plain request came, and the first frames perhaps."""
        self.take_over(transport)
        self.response = upgrade.response
        self.unread = rest
        self._start(upgrade.scope(list(transport.client[:2]), self.factory.address))

    def onConnect(self, request: Any) -> Any:
        """Start the application: autobahn found the request to be right. HTTP's producer goes."""
        self.transport.unregisterProducer()
        subprotocols = request.headers.get("sec-websocket-protocol", "").split(",")
        scope = Upgrade(
            path=request.path.encode("ascii"),
            query=self.raw_query_string,
            headers=[
                (name.lower().encode("ascii"), value.encode("latin1"))
                for name, value in request.headers.items()
                if "_" not in name  # CVE-2015-0219
            ],
            response=b"",
        ).scope(list(self.transport.client[:2]), self.factory.address)
        scope["subprotocols"] = [name.strip() for name in subprotocols if name.strip()]
        self.handshake_deferred: Deferred[Any] = Deferred()
        self._start(scope)
        return self.handshake_deferred

    def _start(self, scope: dict[str, Any]) -> None:
        self.broadcast = BroadcastSocket(self.transport, self.factory.slow)
        scope["extensions"] = {"broadcast": self.broadcast}
        self.application_queue = ReceiveQueue(self.factory.receive_budget, self.factory.loop, self)
        self.factory.start(self, scope)

    # --- What the application says --------------------------------------------------------------------------

    async def send(self, message: dict[str, Any]) -> None:
        """Handle a message of the application (ASGI's send). Messages after the end are dropped."""
        if self.state != self.STATE_CLOSED:
            self.handle_reply(message)

    def serverAccept(self, subprotocol: str | None = None) -> None:
        """Answer the handshake, with the first reply in the same write."""
        if not self.response:
            deferred = self.handshake_deferred
            del self.handshake_deferred
            deferred.callback(subprotocol)
            return
        assert self.broadcast is not None
        self.state = self.STATE_OPEN
        self.broadcast.begin_with(self.response)
        del self.response
        self.factory.loop.call_soon(self._opened)

    def _opened(self) -> None:
        if self.broadcast is not None:
            self.broadcast.flush()
        if self.state == self.STATE_OPEN:
            self.resume_reading()

    def serverReject(self) -> None:
        """Refuse the handshake."""
        if self.response:
            self.failHandshake("Access denied", 403)
        else:
            super().serverReject()

    def serverClose(self, code: int | None = None) -> None:
        """Close with any code: Daphne's method refuses all but 1000 and 3000 to 4999, and leaves the socket open."""
        if self.broadcast is not None:
            self.broadcast.flush()
        if self.state == self.STATE_OPEN:
            self._say_goodbye(1000 if code is None else code)

    def handle_exception(self, exception: BaseException) -> None:
        """Close the connection, or refuse the handshake, with an error: the application failed."""
        if self.state == self.STATE_CONNECTING:
            self.failHandshake("Internal server error", 500)
        else:
            self._say_goodbye(1011)

    def sendCloseFrame(self, *args: Any, **kwargs: Any) -> None:
        """Send a Close frame, of ours or in answer to the peer's, and no other frame after it."""
        super().sendCloseFrame(*args, **kwargs)
        if self.broadcast is not None:
            self.broadcast.end()

    def _say_goodbye(self, code: int) -> None:
        """Send a close frame, and read on until the peer's comes: no other frame is handled any more."""
        self.sendCloseFrame(code=code)
        self.resume_reading()

    # --- What the peer says -----------------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        """Read what the peer sent, or keep it until there is room for its frames."""
        if self.unread or self._must_wait():
            self.unread += data
            self._pause_reading()
        else:
            self._read(data)

    def _read(self, data: bytes) -> None:
        """Read plain frames, as most are, and leave the rest to autobahn. A pong is dropped: the kernel noted it."""
        start, size = 0, len(data)
        while start < size:
            if self._must_wait():
                self.unread = data[start:]
                break
            plain = None
            if self.state == self.STATE_OPEN and self.is_between_frames:
                plain = read_plain(data, start, max_bytes=self.maxFramePayloadSize)
            if plain is None:
                piece = data[start : start + AUTOBAHN_BYTES]
                start += len(piece)
                self._feed(piece)
            else:
                first, payload, start = plain
                if first != PONG:
                    self.onMessage(payload, first == BINARY)
        if self._must_wait():
            self._pause_reading()

    def _feed(self, piece: bytes) -> None:
        """Let autobahn read, and count what it keeps of a message that is not whole yet."""
        self.feed(piece)
        if self.state == self.STATE_CONNECTING:
            return
        if self.is_between_frames:
            if self.is_counted:
                self.is_counted = False
                self.factory.unfinished.release(self)
        elif self.state == self.STATE_OPEN:
            self.is_counted = True
            if not self.factory.unfinished.grow(self, len(piece)):
                self.refuse_for_memory()

    def refuse_for_memory(self) -> None:
        """See incoming.Sender. 1013: try again later."""
        self.is_counted = False
        self.sendCloseFrame(code=1013)
        self.transport.loseConnection()

    def _must_wait(self) -> bool:
        """Return whether the application has to receive, or to answer the handshake, before more is read."""
        queue = self.application_queue
        return queue is not None and (
            (queue.is_full and self.state == self.STATE_OPEN) or self.state == self.STATE_CONNECTING
        )

    def _pause_reading(self) -> None:
        if not self.is_paused:
            self.is_paused = True
            self.transport.pauseProducing()

    def resume_reading(self) -> None:
        """Read bytes that were kept, and then those in the kernel."""
        unread, self.unread = self.unread, b""
        if unread:
            self._read(unread)
        if self.is_paused and not self._must_wait() and self.transport.connected:
            self.is_paused = False
            self.transport.resumeProducing()

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Hand a frame to the application."""
        if self.muted or self.application_queue is None or self.state != self.STATE_OPEN:
            return
        if isBinary:
            self.application_queue.put({"type": "websocket.receive", "bytes": payload}, len(payload))
            return
        try:
            text = payload.decode()
        except UnicodeDecodeError:
            self.refuse_payload("the text is not UTF-8")
            return
        self.application_queue.put({"type": "websocket.receive", "text": text}, len(payload))

    def onPing(self, payload: bytes) -> None:
        """Answer within the bounds of replies: autobahn would keep every pong that the peer does not read."""
        if self.broadcast is not None and self.state == self.STATE_OPEN:
            self.broadcast.reply(bytes((PONG, len(payload))) + payload, binary=True)

    def onOpen(self) -> None:
        """Go on after a handshake of autobahn's, once it has read the frames that came with the request."""
        self.factory.loop.call_soon(self._opened)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """Give the application its last message: the connection is over."""
        if self.broadcast is not None:
            self.broadcast.forget()
        if self.application_queue is not None:
            self.unread = b""
            self.factory.unfinished.release(self)
            self.application_queue.end({"type": "websocket.disconnect", "code": code})
            self.factory.closed(self)


class WebSocketFactory(BareWebSocketFactory):
    """Makes WebSockets, and holds what all of them share: options, the receive budget, slow peers."""

    protocol = WebSocket

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.loop: asyncio.AbstractEventLoop  # set by the server, like the other three
        self.address: list[Any] = ["", 0]  # our own, for scopes
        self.slow: dict[BroadcastSocket, None] = {}
        self.receive_budget = ReceiveBudget()
        self.unfinished = Incoming(largest_bytes=settings.FRAME_MAX_BYTES)
        self.start: Callable[[WebSocket, dict[str, Any]], None]  # with its scope
        self.closed: Callable[[WebSocket], None]
