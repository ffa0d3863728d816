"""One HTTP/1.1 connection on asyncio and h11: whole requests in, one at a time, and every buffer and wait bounded."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus

import h11

from integrations.lambda_runtime import limits
from integrations.lambda_runtime.http_message import HttpRequest, HttpResponse

Handle = Callable[[HttpRequest], Awaitable[HttpResponse]]
Refuse = Callable[[int], HttpResponse]

REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ServerLimits:
    """Bounds of one server. `None` for a time means: wait for ever (a runtime waits for its next event)."""

    body_bytes: int = limits.MAX_PAYLOAD_BYTES
    buffered_bytes: int = limits.MAX_BUFFERED_BYTES
    connections: int = limits.MAX_CONNECTIONS
    request_seconds: float | None = limits.REQUEST_SECONDS
    idle_seconds: float | None = limits.IDLE_SECONDS


class Service:
    """What the connections of one server share: whom to ask, what is allowed, and what there is at this moment."""

    def __init__(self, handle: Handle, *, bounds: ServerLimits, refuse: Refuse, cancel_on_leave: bool) -> None:
        self.handle = handle
        self.refuse = refuse  # words the answers to what never becomes a request
        self.bounds = bounds
        self.cancel_on_leave = cancel_on_leave  # whether a peer's leaving ends what it asked for
        self.buffered = 0  # body bytes of requests that are still arriving, over all connections
        self.connections: set[Connection] = set()
        self.tasks: set[asyncio.Task[None]] = set()


class Connection(asyncio.Protocol):
    """One peer: feeds h11, hands over whole requests one at a time, writes the answers."""

    def __init__(self, service: Service, loop: asyncio.AbstractEventLoop) -> None:
        self._service = service
        self._loop = loop
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.MAX_HEAD_BYTES)
        self._request: h11.Request | None = None
        self._body = bytearray()
        self._busy = False  # from a whole request to its answer: nothing more is parsed meanwhile
        self._refused = False  # answered and half-closed: what still comes is thrown away
        self._writable = asyncio.Event()
        self._writable.set()
        self._deadline: float | None = None
        self._task: asyncio.Task[None] | None = None
        self._source_ip = ""

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if len(self._service.connections) >= self._service.bounds.connections:
            transport.abort()
            return
        self._service.connections.add(self)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._source_ip = transport.get_extra_info("peername")[0]
        self._expect(self._service.bounds.idle_seconds)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._http.receive_data(data)
        if self._busy:
            self._transport.pause_reading()  # a pipelining peer waits in the kernel, not in our memory
            return
        if self._request is None:
            self._expect(self._service.bounds.request_seconds)
        self._advance()

    def eof_received(self) -> bool:
        if self._refused:
            return False
        self._http.receive_data(b"")
        if not self._busy:
            self._advance()
        return self._busy  # a peer that only closed its half still gets its answer

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, error: Exception | None) -> None:
        self._service.connections.discard(self)
        self._forget_body()
        self._writable.set()
        if self._task is not None and self._service.cancel_on_leave:
            self._task.cancel()

    # the server's side

    def overdue(self, now: float) -> bool:
        """Whether the peer has kept us waiting for longer than it may."""
        return self._deadline is not None and now > self._deadline

    def abort(self) -> None:
        """Drop the connection with whatever is unsent."""
        self._transport.abort()

    # one request after the other

    def _advance(self) -> None:
        while not self._busy:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                return self._refuse(error.error_status_hint)
            if event is h11.NEED_DATA:
                return self._ask_for_the_body()
            if event is h11.PAUSED:
                return None
            if isinstance(event, h11.Request):
                self._request = event
                if self._declared_length(event) > self._service.bounds.body_bytes:
                    return self._refuse(413)
            elif isinstance(event, h11.Data):
                if (status := self._take(event.data)) is not None:
                    return self._refuse(status)
            elif isinstance(event, h11.EndOfMessage):
                self._dispatch()
            elif isinstance(event, h11.ConnectionClosed):
                return self._transport.close()
        return None

    def _declared_length(self, event: h11.Request) -> int:
        return next((int(value) for name, value in event.headers if name == b"content-length"), 0)

    def _take(self, data: bytes) -> int | None:
        self._body += data
        self._service.buffered += len(data)
        if len(self._body) > self._service.bounds.body_bytes:
            return 413
        return 503 if self._service.buffered > self._service.bounds.buffered_bytes else None

    def _ask_for_the_body(self) -> None:
        if self._http.they_are_waiting_for_100_continue:
            self._write(h11.InformationalResponse(status_code=100, headers=[], reason="Continue"))

    def _dispatch(self) -> None:
        assert self._request is not None
        head, body = self._request, bytes(self._body)
        self._request = None
        self._forget_body()
        self._busy = True
        self._expect(None)
        request = HttpRequest(
            method=head.method.decode(),
            target=head.target.decode("latin-1"),
            headers=tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in head.headers),
            body=body,
            protocol=f"HTTP/{head.http_version.decode()}",
            source_ip=self._source_ip,
        )
        self._task = self._loop.create_task(self._answer(request))
        self._service.tasks.add(self._task)
        self._task.add_done_callback(self._service.tasks.discard)

    async def _answer(self, request: HttpRequest) -> None:
        try:
            response = await self._service.handle(request)
        except Exception:
            logger.exception("the handler of %s failed", request.method)
            response = self._service.refuse(500)
        if self._transport.is_closing():
            return
        self._send(response, bodiless=request.method == "HEAD")
        if not self._writable.is_set():
            self._expect(limits.WRITE_SECONDS)
            await self._writable.wait()
        self._next_cycle()

    def _next_cycle(self) -> None:
        self._task = None
        self._busy = False
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return self._transport.close()
        self._http.start_next_cycle()
        self._expect(self._service.bounds.idle_seconds)
        self._transport.resume_reading()
        return self._advance()

    def _refuse(self, status: int) -> None:
        """Answer a request that is not going to be handled, and end the connection.

        Closing at once would reset it, with the answer unread, if the peer is still sending: it gets a moment.
        """
        self._refused = self._busy = True
        self._forget_body()
        if self._http.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            refusal = self._service.refuse(status)
            headers = (*refusal.headers, ("connection", "close"))
            self._send(HttpResponse(status=refusal.status, headers=headers, body=refusal.body))
        self._transport.write_eof()
        self._expect(limits.LINGER_SECONDS)

    def _send(self, response: HttpResponse, *, bodiless: bool = False) -> None:
        bodiless = bodiless or response.status in {204, 304}
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers]
        if response.status != 204:
            headers.append((b"content-length", str(len(response.body)).encode()))
        reason = REASONS.get(response.status, b"")
        head = self._http.send(h11.Response(status_code=response.status, headers=headers, reason=reason)) or b""
        if not bodiless:
            self._http.send(h11.Data(data=response.body))
        self._http.send(h11.EndOfMessage())
        self._transport.write(head if bodiless else head + response.body)

    def _write(self, event: h11.InformationalResponse) -> None:
        self._transport.write(self._http.send(event) or b"")

    def _expect(self, seconds: float | None) -> None:
        self._deadline = None if seconds is None else self._loop.time() + seconds

    def _forget_body(self) -> None:
        self._service.buffered -= len(self._body)
        self._body = bytearray()
