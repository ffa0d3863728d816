"""The one door to the outside: every connection that this project opens to somebody else's server.

No redirects, no proxies from the environment, TLS verified, bounded time and size, and no private address: all
addresses of a name are judged after it was resolved, and the connection goes to an address that was judged. A name
that answers differently the next time changes nothing.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import httpcore
import httpx

from integrations import addresses
from integrations.addresses import AllowList, RefusedAddress
from integrations.answers import Answer, CallFailed

ANSWER_MAX_BYTES = 32_768
CONNECT_SECONDS = 3.0
RESOLVE_THREADS = 16
KEEP_ALIVE_SECONDS = 20.0

Resolve = Callable[[str, int], Awaitable[list[str]]]


class Outgoing:
    """A pool of connections. `resolve` is the seam at which tests put a name server of their own."""

    def __init__(self, *, allowed: AllowList, max_connections: int, resolve: Resolve | None = None) -> None:
        self._resolver = ThreadPoolExecutor(RESOLVE_THREADS, thread_name_prefix="resolve")
        guard = _Guard(allowed, resolve or self._resolve)
        self._client = httpx.AsyncClient(
            transport=_Transport(_Connections(guard, max_idle=max_connections)),
            follow_redirects=False,
            trust_env=False,
            # What is read is counted as it comes: a compressed answer could grow without bound.
            headers={"accept-encoding": "identity", "accept": "application/json"},
        )

    async def post(self, url: str, *, body: bytes, headers: dict[str, str], timeout: float) -> Answer:
        """Make one call, in at most `timeout` seconds from name to last byte. Raises CallFailed."""
        limits = httpx.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS))
        try:
            async with asyncio.timeout(timeout):
                async with self._client.stream("POST", url, content=body, headers=headers, timeout=limits) as response:
                    return await _read(response)
        except (TimeoutError, httpx.TimeoutException):
            raise CallFailed(f"No answer within {timeout:g} seconds.") from None
        except RefusedAddress as error:
            raise CallFailed(str(error), is_final=True) from None
        except httpx.InvalidURL as error:
            raise CallFailed(f"The URL cannot be used: {error}"[:300], is_final=True) from None
        except (httpx.HTTPError, ssl.SSLError, OSError, UnicodeError) as error:
            raise CallFailed(describe(error)) from None

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()
        self._resolver.shutdown(wait=False, cancel_futures=True)

    async def _resolve(self, host: str, port: int) -> list[str]:
        return await asyncio.get_running_loop().run_in_executor(self._resolver, addresses.resolve, host, port)


class _Guard(httpcore.AsyncNetworkBackend):
    """Opens connections to addresses that were judged, and to nothing else."""

    def __init__(self, allowed: AllowList, resolve: Resolve) -> None:
        self._allowed = allowed
        self._resolve = resolve
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve, judge every address, then connect to one of them, trying the next where one does not answer."""
        began = time.monotonic()
        try:
            found = await asyncio.wait_for(self._resolve(host, port), timeout)
        except TimeoutError:
            raise httpcore.ConnectTimeout("The name server did not answer.") from None
        except (OSError, UnicodeError):
            raise httpcore.ConnectError(f"The name {host} cannot be resolved.") from None
        problem: Exception = httpcore.ConnectError("no address")
        for address in addresses.check(host, port, found, self._allowed):
            left = None if timeout is None else max(0.001, timeout - (time.monotonic() - began))
            try:
                return await self._network.connect_tcp(address, port, left, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                problem = error
        raise problem

    async def connect_unix_socket(self, *args: Any, **kwargs: Any) -> httpcore.AsyncNetworkStream:
        """Never: no rule names one."""
        raise RefusedAddress("Unix sockets are not called.")

    async def sleep(self, seconds: float) -> None:
        """Wait, as the pool asks for."""
        await asyncio.sleep(seconds)


class _Transport(httpx.AsyncHTTPTransport):
    """httpx's own transport over connections that the guard opens."""

    def __init__(self, connections: _Connections) -> None:
        super().__init__(verify=connections.tls, trust_env=False)
        # httpx passes no network backend on; the pool that it made has opened nothing yet.
        self._pool = connections  # type: ignore[assignment]


class _Connections:
    """Connections kept alive by origin. The caller bounds how many calls there are at once.

    httpcore's own pool looks at all of its connections for every call: with 48 of them that cost 4.6 ms of CPU a
    call instead of 0.7 ms.
    """

    def __init__(self, guard: _Guard, *, max_idle: int) -> None:
        self._guard = guard
        self._max_idle = max_idle
        self.tls = httpx.create_ssl_context(verify=True, trust_env=False)
        self._idle: dict[str, list[httpcore.AsyncHTTPConnection]] = {}
        self._swept_at = time.monotonic()

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:
        """Make one call on a connection of its own. It is kept when the answer was read to its end."""
        connection = await self._take(request.url.origin)
        try:
            response = await connection.handle_async_request(request)
        except BaseException:
            await _close(connection)
            raise
        return httpcore.Response(
            response.status,
            headers=response.headers,
            content=_Body(response, partial(self._give_back, request.url.origin, connection)),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        """Close what is idle; what is under way closes itself."""
        idle = [connection for of_origin in self._idle.values() for connection in of_origin]
        self._idle.clear()
        for connection in idle:
            await _close(connection)

    async def _take(self, origin: httpcore.Origin) -> httpcore.AsyncHTTPConnection:
        if time.monotonic() - self._swept_at > KEEP_ALIVE_SECONDS:
            await self._sweep()
        of_origin = self._idle.get(str(origin), [])
        while of_origin:
            connection = of_origin.pop()
            if connection.is_idle() and not connection.has_expired():
                return connection
            await _close(connection)
        return httpcore.AsyncHTTPConnection(
            origin,
            ssl_context=self.tls,
            keepalive_expiry=KEEP_ALIVE_SECONDS,
            network_backend=self._guard,
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        )

    async def _give_back(self, origin: httpcore.Origin, connection: httpcore.AsyncHTTPConnection) -> None:
        if connection.is_idle() and sum(map(len, self._idle.values())) < self._max_idle:
            self._idle.setdefault(str(origin), []).append(connection)
        else:
            await _close(connection)

    async def _sweep(self) -> None:
        """Close what nobody used for a while, so that origins that are not called any more hold nothing."""
        self._swept_at = time.monotonic()
        for origin, of_origin in list(self._idle.items()):
            expired = [connection for connection in of_origin if connection.has_expired()]
            self._idle[origin] = [connection for connection in of_origin if connection not in expired]
            if not self._idle[origin]:
                del self._idle[origin]
            for connection in expired:
                await _close(connection)


class _Body:
    """The body of an answer; closing it gives the connection back."""

    def __init__(self, response: httpcore.Response, give_back: Callable[[], Awaitable[None]]) -> None:
        self._response = response
        self._give_back = give_back

    async def __aiter__(self) -> AsyncIterator[bytes]:
        assert isinstance(self._response.stream, AsyncIterable)
        async for chunk in self._response.stream:
            yield chunk

    async def aclose(self) -> None:
        """End the answer, read or not."""
        try:
            await self._response.aclose()
        finally:
            await self._give_back()


async def _close(connection: httpcore.AsyncHTTPConnection) -> None:
    try:
        await connection.aclose()
    except (httpcore.NetworkError, OSError):
        pass  # it was broken already


async def _read(response: httpx.Response) -> Answer:
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > ANSWER_MAX_BYTES:
            raise CallFailed(f"The answer (HTTP {response.status_code}) is larger than {ANSWER_MAX_BYTES} bytes.")
    return Answer(status=response.status_code, body=bytes(body), retry_after=response.headers.get("retry-after"))


def describe(error: Exception) -> str:
    """Return a sentence about a network error, without what the peer may have put in it."""
    if isinstance(error, httpx.ConnectError) and isinstance(_root(error), ssl.SSLError):
        reason = getattr(_root(error), "verify_message", "") or "handshake failed"
        return f"TLS: {reason}."
    if isinstance(error, httpx.ConnectError):
        return f"No connection: {error or 'refused'}."[:300].replace("..", ".")
    kinds: dict[type[Exception], str] = {
        httpx.RemoteProtocolError: "The endpoint closed the connection or does not speak HTTP.",
        httpx.ReadError: "The connection broke while the answer was read.",
        httpx.WriteError: "The connection broke while the call was sent.",
        httpx.UnsupportedProtocol: "The URL must begin with http:// or https://.",
    }
    return kinds.get(type(error), f"The call failed ({type(error).__name__}).")


def _root(error: BaseException) -> BaseException:
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error
