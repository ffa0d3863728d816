"""What no caller may do to the server, and what it then answers."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

from integrations.lambda_runtime import limits
from integrations.lambda_runtime.http_message import HttpRequest, HttpResponse
from integrations.lambda_runtime.http_server import HttpServer, ServerLimits
from tests.patience import PATIENCE

Serve = Callable[..., Awaitable[Any]]
Eventually = Callable[..., Awaitable[None]]


async def send(url: str, data: bytes) -> bytes:
    """What the server answers to raw bytes until it closes the connection."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(data)
    async with asyncio.timeout(PATIENCE):
        answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01 this is TLS\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 70_000, 431),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400),
        (b"GET /?" + b"&".join([b"a=1"] * 2_000) + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 400),
    ],
)
async def test_what_is_no_request_is_refused_and_the_next_one_is_served(serve: Serve, data: bytes, status: int) -> None:
    served = await serve("fine.py", "def handler(event, context):\n    return 'fine'\n")
    answer = await send(served.url, data)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert (await served.get()).text == "fine"


async def test_requests_in_one_packet_are_answered_in_their_order(serve: Serve) -> None:
    served = await serve("path.py", "def handler(event, context):\n    return event['rawPath']\n")
    requests = b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(3))
    answer = await send(served.url, requests + b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    bodies = [part.partition(b"\r\n\r\n")[2] for part in answer.split(b"HTTP/1.1 200 OK")[1:]]
    assert bodies == [b"/0", b"/1", b"/2", b"/last"]


async def test_a_head_request_gets_the_headers_alone(serve: Serve) -> None:
    served = await serve("fine.py", "def handler(event, context):\n    return 'fine'\n")
    answer = await served.client.head("")
    assert (answer.status_code, answer.headers["content-length"], answer.content) == (200, "4", b"")
    assert (await served.get()).text == "fine"


class Echo:
    """A server without a function behind it, for what concerns the server alone."""

    def __init__(self, **bounds: Any) -> None:
        self.server = HttpServer(self.handle, bounds=ServerLimits(**bounds))

    async def handle(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(status=200, body=request.body)

    async def __aenter__(self) -> str:
        return f"http://127.0.0.1:{await self.server.start('127.0.0.1', 0)}/"

    async def __aexit__(self, *error: object) -> None:
        await self.server.stop()


async def test_half_sent_requests_are_dropped_after_a_while(eventually: Eventually) -> None:
    echo = Echo(body_seconds=0.2, idle_seconds=30)
    async with echo as url:
        half = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf"
        answers = await asyncio.gather(*(send(url, half) for _ in range(50)), return_exceptions=True)
        assert all(answer == b"" or isinstance(answer, ConnectionError) for answer in answers)
        await eventually(lambda: not echo.server.connections)
        assert echo.server.buffered == 0


async def test_a_head_that_never_ends_is_dropped_and_so_is_a_connection_that_nobody_uses() -> None:
    async with Echo(idle_seconds=0.2) as url:
        assert await send(url, b"") == b""
        assert await send(url, b"GET / HTTP/1.1\r\nHost: a\r\nX: y") == b""
        answer = await send(url, b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /half")
        assert answer.startswith(b"HTTP/1.1 200 OK") and answer.count(b"HTTP/1.1") == 1


async def test_a_caller_that_does_not_read_its_answer_is_dropped(
    eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "WRITE_SECONDS", 0.2)
    echo = Echo()
    async with echo as url:
        address = urlsplit(url)
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6000000\r\n\r\n"
        with socket.socket() as caller:
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # the system may not take the answer for it
            caller.setblocking(False)
            await asyncio.get_running_loop().sock_connect(caller, (address.hostname, address.port))
            await asyncio.get_running_loop().sock_sendall(caller, head + b"x" * 6_000_000)
            await eventually(lambda: echo.server.connections == 1)
            await eventually(lambda: echo.server.connections == 0)


async def test_a_refused_caller_that_is_still_sending_can_read_why() -> None:
    async with Echo(body_bytes=1_000) as url:
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000000\r\n\r\n"
        assert (await send(url, head + b"x" * 5_000_000)).startswith(b"HTTP/1.1 413 ")
        assert (await send(url, b"GET / HTTP/1.1\r\nX: " + b"y" * 5_000_000)).startswith(b"HTTP/1.1 431 ")


async def test_bodies_together_have_a_limit_too() -> None:
    async with Echo(body_bytes=1_000, buffered_bytes=1_500) as url:
        address = urlsplit(url)
        _, holder = await asyncio.open_connection(address.hostname, address.port)
        head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 1000\r\n\r\n"
        holder.write(head + b"x" * 999)
        await holder.drain()
        answer = b""
        async with asyncio.timeout(PATIENCE):
            while not answer.startswith(b"HTTP/1.1 503"):
                answer = await send(url, head + b"x" * 1_000)
        holder.close()


async def test_connections_above_the_limit_are_closed() -> None:
    echo = Echo(connections=2)
    async with echo as url:
        address = urlsplit(url)
        held = [await asyncio.open_connection(address.hostname, address.port) for _ in range(2)]
        async with asyncio.timeout(PATIENCE):
            while echo.server.connections < 2:
                await asyncio.sleep(0)
        with pytest.raises((ConnectionError, AssertionError)):
            assert await send(url, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        for _, writer in held:
            writer.close()


async def test_a_caller_that_waits_for_permission_to_send_gets_it() -> None:
    async with Echo() as url:
        address = urlsplit(url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 Continue")
        writer.write(json.dumps(1234).encode())
        assert (await reader.readuntil(b"1234")).startswith(b"HTTP/1.1 200 OK")
        writer.close()
