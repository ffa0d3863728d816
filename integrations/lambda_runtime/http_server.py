"""The HTTP/1.1 server of the Function URL and of the Runtime API, on aiohttp: whole requests in, whole answers out.

aiohttp parses requests and keeps connections alive. This module bounds what aiohttp leaves open: the number of
connections, the bytes of all bodies that are arriving, and the time that a body or an answer may take.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

# A server, not a client: the one module besides integrations.egress.outgoing that imports aiohttp.
from aiohttp import HttpVersion11, StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import LineTooLong
from aiohttp.http_parser import RawRequestMessage

from integrations.lambda_runtime import limits
from integrations.lambda_runtime.http_message import HttpRequest, HttpResponse

Handle = Callable[[HttpRequest], Awaitable[HttpResponse]]
Refuse = Callable[[int], HttpResponse]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ServerLimits:
    """The bounds of one server."""

    body_bytes: int = limits.MAX_PAYLOAD_BYTES
    buffered_bytes: int = limits.MAX_BUFFERED_BYTES
    connections: int = limits.MAX_CONNECTIONS
    body_seconds: float | None = limits.BODY_SECONDS  # None: a body may take for ever
    idle_seconds: float = limits.IDLE_SECONDS  # from one answer to the end of the next request's head


def refuse_plainly(status: int) -> HttpResponse:
    """Return the answer to a request that is malformed, too large or one too many."""
    return HttpResponse(status=status, headers=(("content-type", "application/json"),), body=b'{"Message":null}')


class HttpServer:
    """Calls `handle` with each whole request; `refuse` words the answers that the server gives by itself.

    When a peer leaves while its request is handled, that goes on, or is cancelled if `cancel_on_leave`.
    """

    def __init__(
        self,
        handle: Handle,
        *,
        bounds: ServerLimits | None = None,
        refuse: Refuse = refuse_plainly,
        cancel_on_leave: bool = False,
    ) -> None:
        self._handle = handle
        self._refuse = refuse
        self.bounds = bounds or ServerLimits()
        self.buffered = 0  # body bytes of requests that are still arriving, over all connections
        self._aiohttp = web.Server(self._serve, request_factory=_request, handler_cancellation=cancel_on_leave)
        self._listener: asyncio.Server | None = None

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._aiohttp.connections)

    async def start(self, host: str, port: int) -> int:
        """Listen and return the port (a free one for port 0). Raises OSError."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: _Connection(self, self._aiohttp), host, port, backlog=1024)
        listening: tuple[str, int] = self._listener.sockets[0].getsockname()
        return listening[1]

    async def stop(self, *, drain_seconds: float = 0.0) -> None:
        """Accept nothing more, give what is being handled this long to end, then drop everything."""
        if self._listener is not None:
            self._listener.close()
        self._aiohttp.pre_shutdown()
        # aiohttp waits for as long twice, for the answer and then for the connection; and for ever where it is 0.
        await self._aiohttp.shutdown(max(drain_seconds / 2, 0.001))

    def refusal(self, status: int) -> web.Response:
        """Return the answer to a request that is not going to be handled: it ends the connection."""
        response = _written(self._refuse(status))
        response.force_close()
        return response

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        is_modern = request.version >= HttpVersion11
        if is_modern and "host" not in request.headers:
            return self.refusal(400)  # RFC 9112, 3.2: a server must; aiohttp does not
        if (request.content_length or 0) > self.bounds.body_bytes:
            return self.refusal(413)
        if is_modern and request.headers.get("expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # the answer itself has not begun
        body, status = bytearray(), 0
        try:
            async with asyncio.timeout(self.bounds.body_seconds):
                status = await self._read(request, body)
        except TimeoutError:
            status = 408
            if request.transport is not None:
                request.transport.abort()
        except (web.RequestPayloadError, OSError):
            status = 400  # chunks that are none, or a peer that left
        finally:
            self.buffered -= len(body)
        return self.refusal(status) if status else _written(await self._handle(_plain(request, bytes(body))))

    async def _read(self, request: web.BaseRequest, body: bytearray) -> int:
        """Read the body; returns the status of the refusal where there is too much of it, else 0."""
        async for chunk in request.content.iter_any():
            body += chunk
            self.buffered += len(chunk)
            if len(body) > self.bounds.body_bytes:
                return 413
            if self.buffered > self.bounds.buffered_bytes:
                return 503
        return 0


class _Connection(web.RequestHandler):
    """One connection of aiohttp's: dropped above the limit, and when its peer does not read an answer in time."""

    def __init__(self, server: HttpServer, manager: web.Server) -> None:
        options: dict[str, Any] = {
            "keepalive_timeout": server.bounds.idle_seconds,
            "access_log": None,  # its lines would hold query strings
            "auto_decompress": False,  # a body is handed over as it came
            "lingering_time": 0,  # see `_linger`
        }
        super().__init__(manager, loop=asyncio.get_running_loop(), **options)
        self._server = server
        self._gone = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(0)  # an answer counts as written once the system has taken all of it
        if self._server.connections > self._server.bounds.connections:
            transport.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._gone.set()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Return the answer to what is no request, or to a request whose handler raised."""
        if status >= 500:
            logger.error("the handler of a request failed", exc_info=exc)
        return self._server.refusal(431 if isinstance(exc, LineTooLong) else status)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Write an answer within its time; a refusal is followed by the end of the connection."""
        is_refusal = resp.keep_alive is False  # the others are not told to close before they are written
        try:
            async with asyncio.timeout(limits.WRITE_SECONDS):
                response, has_left = await super().finish_response(request, resp, start_time)
        except TimeoutError:
            if self.transport is not None:
                self.transport.abort()
            return resp, True
        if is_refusal and not has_left:
            await self._linger()
        return response, has_left

    async def _linger(self) -> None:
        """Throw away what a refused peer still sends: closing at once would reset it, with the answer unread."""
        self.close()
        if self.transport is not None:
            self.transport.write_eof()
            self.resume_reading(resume_parser=False)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limits.LINGER_SECONDS):
                await self._gone.wait()


def _request(
    message: RawRequestMessage,
    payload: StreamReader,
    connection: web.RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> web.BaseRequest:
    if message.method == "UNKNOWN":  # aiohttp's word for what it could not parse, and would answer as HTTP/1.0
        message = message._replace(version=HttpVersion11)
    return web.BaseRequest(message, payload, connection, writer, task, asyncio.get_running_loop())


def _plain(request: web.BaseRequest, body: bytes) -> HttpRequest:
    return HttpRequest(
        method=request.method,
        target=request.raw_path,
        headers=tuple((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in request.raw_headers),
        body=body,
        protocol=f"HTTP/{request.version.major}.{request.version.minor}",
        source_ip=request.remote or "",
    )


def _written(answer: HttpResponse) -> web.Response:
    return web.Response(status=answer.status, headers=answer.headers, body=answer.body)
