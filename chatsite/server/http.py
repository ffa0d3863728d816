"""HTTP by Twisted and Daphne, with bounds on the bytes of a request and on the time until it is whole."""

from __future__ import annotations

import json
import time
from io import BytesIO
from typing import Any

from django.conf import settings

from chatsite.server.handshakes import HEADER_SECONDS
from chatsite.server.incoming import Incoming
from chatsite.server.library_internals import BareChannel, BareHTTPFactory, BareRequest

LEAST_BYTES_PER_SECOND = 10_000  # what a body must bring on average, besides HEADER_SECONDS
FORM_MAX_BYTES = 262_144  # of a form of the pages: read as fields, it may take thirty times as much memory
API_PATHS = (b"/channels", b"/keys", b"/time")  # their bodies are JSON or MessagePack, even if curl calls them forms
UPGRADE_MAX_BYTES = 65_536  # of a body that comes with the request for a WebSocket: autobahn takes it for frames

_ANSWER = (
    b"HTTP/1.1 %b\r\nConnection: close\r\nContent-Type: application/json\r\nX-Ably-Errorcode: %d\r\n%b"
    b"Content-Length: %d\r\n\r\n%b"
)


def _answer(status: bytes, code: int, text: str, more_headers: bytes = b"") -> bytes:
    body = json.dumps({"error": {"code": code, "statusCode": int(status[:3]), "message": text}}).encode()
    return _ANSWER % (status, code, more_headers, len(body), body)


TOO_LARGE = _answer(b"413 Content Too Large", 40009, "The request body is too large.")
BUSY = _answer(b"503 Service Unavailable", 50004, "The server is busy; try again in a moment.", b"Retry-After: 1\r\n")


class Request(BareRequest):
    """An HTTP request whose body is dropped at its limit, before it takes memory or disk.

    Daphne has the whole body in memory before the application hears of the request, whatever its limits.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._received = 0
        self._is_refused = False
        self._bodies: Incoming = self.server.request_bodies

    def gotLength(self, length: int | None) -> None:
        """Refuse a body that says that it is too large."""
        super().gotLength(length)
        if length is not None and length > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            self._refuse(TOO_LARGE)

    def handleContentChunk(self, data: bytes) -> None:
        """Keep a part of the body, or refuse one that turns out to be too large, or for which there is no memory."""
        if self._is_refused:
            return
        self._received += len(data)
        if self._received > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            self._refuse(TOO_LARGE)
        elif self._bodies.grow(self, len(data)):
            super().handleContentChunk(data)
        else:
            self.refuse_for_memory()

    def process(self) -> Any:
        """Serve the request, which is whole. Its body is released when its application ends, if it gets one."""
        # Daphne would believe any client about the prefix of its path, and Django would serve another path than we saw.
        self.requestHeaders.removeHeader(b"daphne-root-path")
        if self._received > UPGRADE_MAX_BYTES and self.requestHeaders.hasHeader(b"Upgrade"):
            self._refuse(TOO_LARGE)
        if self._received > FORM_MAX_BYTES and self._is_form():
            self._refuse(TOO_LARGE)
        if self._is_refused:
            return None
        self._bodies.complete(self)
        serving = super().process()
        if not self.has_application:
            self._bodies.release(self)
        if self.is_handed_over:
            self.channel: Any = None  # which holds this request, too: only the garbage collector would find the two
        return serving

    def _is_form(self) -> bool:
        kind = (self.requestHeaders.getRawHeaders(b"content-type") or [b""])[0]
        path = self.uri.partition(b"?")[0]
        is_api = any(path == api or path.startswith(api + b"/") for api in API_PATHS)
        return b"form-urlencoded" in kind.lower() and not is_api

    def connectionLost(self, reason: Any) -> None:
        """Release a body that did not come to its end. An application that is under way keeps its own to the end."""
        if not self.has_application:
            self._bodies.release(self)
        super().connectionLost(reason)

    def refuse_for_memory(self) -> None:
        """See incoming.Sender."""
        self._refuse(BUSY)

    def _refuse(self, answer: bytes) -> None:
        if not self._is_refused:
            self._is_refused = True
            self._bodies.release(self)
            self.content = BytesIO()  # what came so far is dropped now, not when the peer has read the answer
            self.channel.transport.write(answer)
            self.channel.loseConnection()


class Channel(BareChannel):
    """An HTTP connection. Twisted ends one that falls silent; this class also ends one that sends too slowly."""

    _due: float | None = None  # when the request that comes in has to be whole

    def dataReceived(self, data: bytes) -> None:
        """Take a part of a request, or end the connection if the request comes too slowly."""
        now = time.monotonic()
        if self._due is None and not self.is_serving:
            self._due = now + HEADER_SECONDS
        if self._due is not None:
            self._due += len(data) / LEAST_BYTES_PER_SECOND
            if now > self._due:
                self.timeoutConnection()
                return
        super().dataReceived(data)

    def allContentReceived(self) -> None:
        """End the deadline: the request is whole."""
        self._due = None
        super().allContentReceived()


class HTTPFactory(BareHTTPFactory):
    """Makes a Channel for each HTTP connection."""

    protocol = Channel
    request = Request

    def __init__(self, server: Any) -> None:
        super().__init__(server, silent_seconds=HEADER_SECONDS)
