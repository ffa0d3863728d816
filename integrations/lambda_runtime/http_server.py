"""A small HTTP/1.1 server, for the Function URL and for the Runtime API."""

from __future__ import annotations

import asyncio

from integrations.lambda_runtime.http_connection import Connection, Handle, Refuse, ServerLimits, Service
from integrations.lambda_runtime.http_message import HttpResponse


def refuse_plainly(status: int) -> HttpResponse:
    """The answer to a request that never became one: malformed, too large, too many."""
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
        self.service = Service(handle, bounds=bounds or ServerLimits(), refuse=refuse, cancel_on_leave=cancel_on_leave)
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen and return the port (a free one for port 0). Raises OSError."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self.service, loop), host, port, backlog=1024)
        if self.service.bounds.idle_seconds is not None:
            self._sweep(loop)
        listening: tuple[str, int] = self._server.sockets[0].getsockname()
        return listening[1]

    async def drain(self, seconds: float) -> None:
        """Accept nothing more, and give what is being handled this long to end."""
        if self._server is not None:
            self._server.close()
        if self.service.tasks:
            await asyncio.wait(set(self.service.tasks), timeout=seconds)

    def close(self) -> None:
        """Drop everything now."""
        if self._server is not None:
            self._server.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in list(self.service.connections):
            connection.abort()

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        # One timer for all connections: a timer each would cost more than the requests that never need one.
        now = loop.time()
        for connection in list(self.service.connections):
            if connection.overdue(now):
                connection.abort()
        self._sweeper = loop.call_later(1.0, self._sweep, loop)
