"""The Channels consumer of one WebSocket, which owns the socket and drives one Session.

It joins no groups of the channel layer (the gateway does) and runs no database code itself, so its `dispatch` leaves
out the thread hop with which Channels closes old database connections: that makes it ten times cheaper.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from channels.consumer import AsyncConsumer
from channels.exceptions import StopConsumer
from django.conf import settings

from rooms import faults
from rooms.access.authentication import authenticate
from rooms.connection.opening import Opening
from rooms.connection.session import Session
from rooms.errors import ChatError, Code
from rooms.fanout.sockets import CONNECTION_MAX_UNSENT_BYTES, ENCODINGS, PlainSocket, Socket, send_reply
from rooms.faults import POSTGRES_AWAY
from rooms.gateway import gateway
from rooms.protocol.wire import Action, ErrorInfo, Format, ProtocolMessage, decode

logger = logging.getLogger(__name__)

AUTHENTICATION_TIMEOUT_SECONDS = 10.0
NOISE_LIMIT = 10  # frames that are no protocol messages; a client that sends more is disconnected


class ChatConsumer(AsyncConsumer):
    """One member's WebSocket, from handshake to close."""

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[Mapping[str, Any]]],
        send: Callable[[Mapping[str, Any]], Awaitable[None]],
    ) -> None:
        """Serve the connection until it is closed."""
        self.scope: dict[str, Any] | None = scope
        del scope
        self.base_send = send
        self.session: Session | None = None
        self.noise = 0
        self.closing: asyncio.Task[None] | None = None
        try:
            while True:
                await self.dispatch(await receive())
        except StopConsumer:
            pass
        finally:
            self._stop()

    async def dispatch(self, message: Mapping[str, Any]) -> None:
        """Route an ASGI event to its handler."""
        match message["type"]:
            case "websocket.receive":
                await self.websocket_receive(message)
            case "websocket.connect":
                await self.websocket_connect(message)
            case "websocket.disconnect":
                raise StopConsumer

    async def websocket_connect(self, message: Mapping[str, Any]) -> None:
        """Accept first, then check the credentials and start the session or send the error.

        In this order, because browsers hide the reason of a refused handshake."""
        scope, self.scope = self.scope or {}, None  # so that headers and credentials are not kept for hours
        if scope.get("path", "/") != "/":
            await self.send({"type": "websocket.close"})
            return
        await self.send({"type": "websocket.accept"})
        opening = Opening.parse(dict(parse_qsl(scope.get("query_string", b"").decode("latin-1"))))
        self.format = opening.format
        self.socket = self._socket(scope)
        try:
            here = gateway.current()
            if len(here.connections) >= settings.CONNECTION_MAX_PER_GATEWAY:
                raise ChatError(Code.BUSY, "This server holds as many connections as it may; try again in a moment.")
            async with asyncio.timeout(AUTHENTICATION_TIMEOUT_SECONDS):
                grant = await authenticate(opening.credentials)
            self.session = Session(here, self.socket, opening, grant, close=self._close)
            self.session.start()
        except ChatError as error:
            self._refuse(error)
        except TimeoutError:
            self._refuse(ChatError(Code.TIMEOUT, "The credentials could not be checked in time; try again."))
        except POSTGRES_AWAY as error:
            logger.warning("a connection was refused: Postgres is away (%s)", type(error).__name__)
            self._refuse(ChatError(Code.UNAVAILABLE, "The connection could not be opened; try again."))
        except Exception:
            faults.record("opening a connection")
            self._refuse(ChatError(Code.UNAVAILABLE, "The connection could not be opened; try again."))

    async def websocket_receive(self, message: Mapping[str, Any]) -> None:
        """Read one frame and hand it to the session."""
        if self.session is None or self.closing is not None:
            return
        frame = message.get("bytes")
        try:
            request = decode(frame if frame is not None else message.get("text") or "", self.format)
            await self.session.handle(request)
        except ChatError as error:
            self._answer_noise(error)
        except Exception:
            faults.record("handling a protocol message")
            self._error(ChatError(Code.INTERNAL, "The message could not be handled."), Action.ERROR)
            self._close(1011)

    def _socket(self, scope: dict[str, Any]) -> Socket:
        offered = (scope.get("extensions") or {}).get("broadcast")
        if offered is not None:
            socket: Socket = offered
            return socket
        return PlainSocket(
            self.base_send,
            binary=self.format is Format.MSGPACK,
            max_unsent_bytes=CONNECTION_MAX_UNSENT_BYTES,
        )

    def _refuse(self, error: ChatError) -> None:
        retry = error.status >= 500 or 40140 <= error.code < 40150
        self._error(error, Action.DISCONNECTED if retry and error.status >= 500 else Action.ERROR)
        self._close(1000)

    def _answer_noise(self, error: ChatError) -> None:
        """Answer a malformed frame with an error. The client may go on; after too many such frames it is cut off."""
        self.noise += 1
        self._error(error, Action.ERROR)
        if self.noise > NOISE_LIMIT:
            self._close(1003)

    def _error(self, error: ChatError, action: Action) -> None:
        self._send_protocol(ProtocolMessage(action=action, error=ErrorInfo.of(error)))

    def _send_protocol(self, message: ProtocolMessage) -> None:
        send_reply(self.socket, ENCODINGS[self.format, self.socket.framing], message)

    def _close(self, code: int) -> None:
        """Close after all replies. Returns at once; the server ends the connection if the peer does not."""
        if self.closing is None:
            self.closing = asyncio.create_task(self.send({"type": "websocket.close", "code": code}), name="close")

    def _stop(self) -> None:
        if self.session is not None:
            self.session.stop()
            self.session = None  # the two refer to each other: only the garbage collector would free them
        socket = getattr(self, "socket", None)
        if isinstance(socket, PlainSocket):
            socket.close()
