"""A bound on the HTTP requests that one gateway works on: further ones wait, and those above HTTP_BACKLOG get 503."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from django.conf import settings

HTTP_BACKLOG = 1000  # requests that wait; above it the answer is 503. Their bodies have a budget of their own

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
Application = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]

BUSY = b'{"error":{"code":50004,"statusCode":503,"message":"The server is busy; try again in a moment."}}'


class Admission:
    """ASGI middleware that lets HTTP_CONCURRENCY requests in at once: each holds a thread and a database connection.

    A publish waits for its review as long as a Lambda takes: it has no slot to hold back others, only the backlog.
    """

    def __init__(self, application: Application) -> None:
        self._application = application
        self._slots = asyncio.Semaphore(settings.HTTP_CONCURRENCY)
        self._waiting = 0
        self._publishing = 0

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Serve a request in its turn, or refuse it where too many wait."""
        if is_publish(scope):
            await self._publish(scope, receive, send)
            return
        if self._waiting >= HTTP_BACKLOG:
            await refuse(send)
            return
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        try:
            await self._application(scope, receive, send)
        finally:
            self._slots.release()

    async def _publish(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if self._publishing >= HTTP_BACKLOG:
            await refuse(send)
            return
        self._publishing += 1
        try:
            await self._application(scope, receive, send)
        finally:
            self._publishing -= 1


def is_publish(scope: dict[str, Any]) -> bool:
    """Return whether a request publishes. No page may pass for one: a page holds a thread and a connection."""
    path = scope.get("path", "")
    return bool(scope.get("method") == "POST" and path.startswith("/channels/") and path.endswith("/messages"))


async def refuse(send: Send) -> None:
    """Answer 503 with Retry-After."""
    headers = [(b"content-type", b"application/json"), (b"retry-after", b"1")]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": BUSY})
