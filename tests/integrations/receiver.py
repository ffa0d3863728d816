"""A real HTTP endpoint for tests: it keeps every request and answers as the test says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.patience import PATIENCE


@dataclass(frozen=True)
class Received:
    """One request that arrived."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def texts(self) -> list[str]:
        """The data of all messages, enveloped or batched."""
        if "items" in self.json:
            return [message["data"] for item in self.json["items"] for message in item["data"]["messages"]]
        return [message["data"] for message in self.json["messages"]]


Reply = tuple[int, Any] | tuple[int, Any, dict[str, str]]
Behaviour = Callable[[Received], Reply | Awaitable[Reply | None]]


class Receiver:
    """`behaviour` gets each request; None as its reply closes the connection without an answer."""

    def __init__(self) -> None:
        self.requests: list[Received] = []
        self.behaviour: Behaviour = lambda request: (200, "")
        self.connections = 0
        self.under_way = 0
        self.most_under_way = 0
        self.port = 0
        self._arrived = asyncio.Condition()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def texts(self) -> list[str]:
        return [text for request in self.requests for text in request.texts]

    async def wait_for(self, count: int, *, seconds: float = PATIENCE) -> list[Received]:
        """Return the requests once there are so many."""
        async with self._arrived, asyncio.timeout(seconds):
            await self._arrived.wait_for(lambda: len(self.requests) >= count)
        return self.requests

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await self._serve_one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        request = Received(path=head[0].split()[1], headers=headers, body=body)
        self.requests.append(request)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        async with self._arrived:
            self._arrived.notify_all()
        try:
            reply = self.behaviour(request)
            if not isinstance(reply, tuple):
                reply = await reply  # type: ignore[assignment]
        finally:
            self.under_way -= 1
        if reply is None:
            return False
        status, answer, *more = reply
        data = (
            answer
            if isinstance(answer, bytes)
            else answer.encode()
            if isinstance(answer, str)
            else json.dumps(answer).encode()
        )
        lines = {"content-length": str(len(data)), "content-type": "application/json"} | (more[0] if more else {})
        writer.write(f"HTTP/1.1 {status} X\r\n".encode())
        writer.write("".join(f"{name}: {value}\r\n" for name, value in lines.items()).encode() + b"\r\n" + data)
        await writer.drain()
        return True


@asynccontextmanager
async def running_receiver() -> AsyncIterator[Receiver]:
    """Serve on a free port of 127.0.0.1 until the block ends."""
    receiver = Receiver()
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(receiver.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
