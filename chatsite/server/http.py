"""HTTP by Twisted and Daphne, with bounds on what a request may take: bytes, and time until it is whole."""

from __future__ import annotations

import time
from typing import Any

from daphne.http_protocol import HTTPFactory as DaphneFactory
from daphne.http_protocol import WebRequest
from django.conf import settings
from twisted.web.http import HTTPChannel

from chatsite.server.handshakes import HEADER_SECONDS

LEAST_BYTES_PER_SECOND = 10_000  # what a body must bring on average, besides HEADER_SECONDS
_TOO_LARGE_BODY = b'{"error":{"code":40009,"statusCode":413,"message":"The request body is too large."}}'
TOO_LARGE = (
    b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Type: application/json\r\n"
    b"X-Ably-Errorcode: 40009\r\nContent-Length: %d\r\n\r\n%b" % (len(_TOO_LARGE_BODY), _TOO_LARGE_BODY)
)


class Request(WebRequest):
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


class Channel(HTTPChannel):
    """A connection on which requests come. Twisted ends one that falls silent; this ends one that drips."""

    requestFactory = Request
    _due: float | None = None  # when the request that comes in has to be whole

    def dataReceived(self, data: bytes) -> None:
        """Take a part of a request, if it is not too late for it."""
        now = time.monotonic()
        if self._due is None and not self._handlingRequest:
            self._due = now + HEADER_SECONDS
        if self._due is not None:
            self._due += len(data) / LEAST_BYTES_PER_SECOND
            if now > self._due:
                self.timeoutConnection()
                return
        super().dataReceived(data)

    def allContentReceived(self) -> None:
        """The request is whole."""
        self._due = None
        super().allContentReceived()


class HTTPFactory(DaphneFactory):
    """Makes Channels."""

    protocol = Channel

    def __init__(self, server: Any) -> None:
        super().__init__(server)
        self.timeOut = HEADER_SECONDS

    def buildProtocol(self, addr: Any) -> Any:
        """Make the protocol of a connection."""
        protocol = super().buildProtocol(addr)
        protocol.requestFactory = Request
        return protocol
