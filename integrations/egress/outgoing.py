"""Opens every connection of this project to another server; import-linter keeps all other modules from it.

No redirects, no proxies from the environment, TLS verified, bounded time and size, and no private address. All
addresses of a name are checked after it was resolved, and the connection goes to one of them, without a second look-up.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any
from weakref import WeakSet

import aiohttp
import certifi
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from integrations.egress import addresses
from integrations.egress.addresses import AllowList, RefusedAddress
from integrations.egress.answers import KEPT_HEADERS, Answer, CallFailed, in_words

WEBHOOK_ANSWER_MAX_BYTES = 32_768  # of an answer: a verdict has a few hundred
WEBHOOK_CONNECT_SECONDS = 3.0  # the rest of a call's time is the target's to answer
WEBHOOK_KEEP_ALIVE_SECONDS = 20.0  # well below the minute after which load balancers close
WEBHOOK_RESOLVE_THREADS = 16  # names looked up at once; a resolver that hangs holds these and nothing else

OUR_HEADERS = {
    # The size of an answer is counted as it arrives: decompressed it could grow without bound.
    "accept-encoding": "identity",
    "accept": "application/json",
}

Resolve = Callable[[str, int], Awaitable[list[str]]]


class Outgoing:
    """A pool of outgoing connections. The caller must not make more than `max_connections` calls at once.

    `resolve` is the seam for a name server of tests.
    """

    def __init__(self, *, allowed: AllowList, max_connections: int, resolve: Resolve | None = None) -> None:
        self._max_connections = max_connections
        self._guard = _Guard(allowed, resolve)
        self._keeping: aiohttp.ClientSession | None = None
        self._closing: aiohttp.ClientSession | None = None

    async def post(
        self,
        url: str,
        *,
        body: bytes,
        headers: Mapping[str, str],
        timeout: float,
        max_bytes: int | None = None,
    ) -> Answer:
        """Make one call, in at most `timeout` seconds from name to last byte. Raises CallFailed.

        `max_bytes`: those of the answer; None: WEBHOOK_ANSWER_MAX_BYTES.
        """
        most = WEBHOOK_ANSWER_MAX_BYTES if max_bytes is None else max_bytes
        try:
            async with asyncio.timeout(timeout):
                return await self._post(_parse(url), body, headers, timeout, most)
        except CallFailed:
            raise
        except RefusedAddress as error:
            raise CallFailed(str(error), is_final=True) from None
        except aiohttp.InvalidURL:
            raise CallFailed("The URL cannot be used: its host is no name and no address.", is_final=True) from None
        except aiohttp.ConnectionTimeoutError:
            raise CallFailed(f"No connection within {in_words(min(timeout, WEBHOOK_CONNECT_SECONDS))}.") from None
        except TimeoutError:
            raise CallFailed(f"No answer within {in_words(timeout)}.") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise CallFailed(describe(error)) from None

    async def close(self) -> None:
        """Close all connections."""
        for session in (self._keeping, self._closing):
            if session is not None:
                await session.close()
        self._guard.shut()

    async def _post(self, url: URL, body: bytes, headers: Mapping[str, str], timeout: float, max_bytes: int) -> Answer:
        call, session = self._guard.begin(url), self._session()
        how: dict[str, Any] = {
            "data": body,
            "headers": {**OUR_HEADERS, **headers},
            "allow_redirects": False,
            "timeout": aiohttp.ClientTimeout(total=None, connect=min(timeout, WEBHOOK_CONNECT_SECONDS)),
        }
        try:
            async with session.post(url, **how) as response:
                return await _read(response, max_bytes)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            if call.has_connected or isinstance(error, aiohttp.ClientConnectorError):
                raise
        # The endpoint closed a kept-alive connection at this moment: the call is repeated on a new one.
        async with session.post(url, **how) as response:
            return await _read(response, max_bytes)

    def _session(self) -> aiohttp.ClientSession:
        # Created at the first call: a session belongs to the running event loop.
        if self._keeping is None:
            self._tls = make_tls()
            self._keeping = self._make_session(keepalive_timeout=WEBHOOK_KEEP_ALIVE_SECONDS)
            self._closing = self._make_session(force_close=True)
        # As many idle connections as busy ones are kept alive.
        has_room = self._guard.open_connections < 2 * self._max_connections
        assert self._closing is not None
        return self._keeping if has_room else self._closing

    def _make_session(self, **how: Any) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=0,
            resolver=self._guard,
            use_dns_cache=False,
            ssl=self._tls,
            socket_factory=self._guard.make_socket,
            **how,
        )
        return aiohttp.ClientSession(
            connector=connector,
            trust_env=False,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("user-agent", "content-type"),
        )


@dataclass(slots=True)
class _GuardedCall:
    """The guard's state of one call: the checked addresses, and whether it has opened a connection."""

    judged: set[str] = field(default_factory=set)
    has_connected: bool = False


_call: ContextVar[_GuardedCall] = ContextVar("_call")


class _Guard(AbstractResolver):
    """Lets a call connect only to addresses that were checked for this call."""

    def __init__(self, allowed: AllowList, resolve: Resolve | None) -> None:
        self._allowed = allowed
        self._threads = ThreadPoolExecutor(WEBHOOK_RESOLVE_THREADS, thread_name_prefix="resolve")
        self._ask = resolve or self._ask_system
        # One query at a time for each name: a name whose servers hang must not occupy all threads.
        self._questions: dict[tuple[str, int], asyncio.Future[list[str]]] = {}
        self._open: WeakSet[_CountedSocket] = WeakSet()

    @property
    def open_connections(self) -> int:
        """The number of open connections, idle ones included."""
        return len(self._open)

    def begin(self, url: URL) -> _GuardedCall:
        """Begin a call. An address in the URL is checked now, a name after it is resolved. Raises RefusedAddress."""
        call = _GuardedCall()
        _call.set(call)
        host, port = url.host or "", url.port or 0
        try:
            ip_address(host.partition("%")[0])
        except ValueError:
            return call
        call.judged.update(addresses.check(host, port, [host], self._allowed))
        return call

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of a name, all checked. Raises RefusedAddress, OSError."""
        key = host, port
        question = self._questions.get(key)
        if question is None:
            question = self._questions[key] = asyncio.ensure_future(self._ask(host, port))
            question.add_done_callback(lambda done: self._answered(key, done))
        try:
            # A call that gives up leaves the query to the others; the system's resolver ends it at last.
            found = await asyncio.shield(question)
        except UnicodeError:
            raise OSError(f"The name {host} cannot be resolved.") from None
        judged = addresses.check(host, port, found, self._allowed)
        _call.get().judged.update(judged)
        return [_as_result(host, port, address) for address in judged]

    def make_socket(self, info: tuple[Any, ...]) -> socket.socket:
        """Return the socket of a new connection. Refuses addresses that were not checked for this call."""
        family, kind, protocol, _, target = info
        call = _call.get()
        if target[0] not in call.judged:
            raise RefusedAddress(f"{target[0]} was not judged.")
        call.has_connected = True
        return _CountedSocket(self._open, family, kind, protocol)

    def shut(self) -> None:
        """Cancel the queries and end the threads."""
        for question in self._questions.values():
            question.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def close(self) -> None:
        """Do nothing: aiohttp calls it for each connector, and the guard outlives them."""

    def _answered(self, key: tuple[str, int], question: asyncio.Future[list[str]]) -> None:
        del self._questions[key]
        if not question.cancelled():
            question.exception()  # retrieved, or asyncio logs it where no call waits any more

    async def _ask_system(self, host: str, port: int) -> list[str]:
        return await asyncio.get_running_loop().run_in_executor(self._threads, addresses.resolve, host, port)


class _CountedSocket(socket.socket):
    """A socket that counts as open until it is closed."""

    def __init__(self, counted: WeakSet[_CountedSocket], family: int, kind: int, protocol: int) -> None:
        super().__init__(family, kind, protocol)
        self._counted = counted
        counted.add(self)

    def close(self) -> None:
        """Close the socket, and count it no more."""
        self._counted.discard(self)
        super().close()


def _as_result(host: str, port: int, address: str) -> ResolveResult:
    return {
        "hostname": host,
        "host": address,
        "port": port,
        "family": socket.AF_INET6 if ":" in address else socket.AF_INET,
        "proto": socket.IPPROTO_TCP,
        "flags": socket.AI_NUMERICHOST,
    }


def make_tls() -> ssl.SSLContext:
    """Return a TLS context that verifies by the system's certificate authorities, or Mozilla's if it has none."""
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509_ca"]:
        context.load_verify_locations(certifi.where())
    return context


def _parse(url: str) -> URL:
    try:
        # Unchanged where possible: yarl's normal form would differ from the URL that was signed.
        parsed = URL(url, encoded=url.isascii() and url.isprintable() and " " not in url)
        has_host = bool(parsed.host and parsed.port)
        if parsed.raw_host != parsed.host:
            parsed = parsed.with_host(parsed.host or "")  # in lower case, as in signatures
    except ValueError as error:
        raise CallFailed(f"The URL cannot be used: {error}"[:300], is_final=True) from None
    if parsed.scheme not in ("http", "https") or not has_host:
        raise CallFailed("The URL cannot be used: it must begin with http:// or https:// and a host.", is_final=True)
    return parsed


async def _read(response: aiohttp.ClientResponse, max_bytes: int) -> Answer:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > max_bytes:
            response.close()
            raise CallFailed(f"The answer (HTTP {response.status}) is larger than {max_bytes} bytes.")
    kept = {name: value for name in KEPT_HEADERS if (value := response.headers.get(name)) is not None}
    return Answer(status=response.status, body=bytes(body), retry_after=kept.get("retry-after"), headers=kept)


def describe(error: Exception) -> str:
    """Return a sentence about a network error, without text of the peer."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"TLS: {getattr(error.certificate_error, 'verify_message', '') or 'the certificate is not valid'}."
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return "TLS: handshake failed."
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"No connection: the name {error.host} cannot be resolved."
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"No connection: {error.os_error.strerror or 'refused'}."[:300].replace("..", ".")
    kinds: dict[type[Exception], str] = {
        aiohttp.ServerDisconnectedError: "The endpoint closed the connection without an answer.",
        aiohttp.ClientResponseError: "The endpoint does not speak HTTP.",
        aiohttp.ClientPayloadError: "The connection broke while the answer was read.",
        aiohttp.ClientOSError: "The connection broke while the call was sent.",
        ValueError: "The call cannot be written as HTTP: look at the rule's headers.",
    }
    found = next((text for kind, text in kinds.items() if isinstance(error, kind)), None)
    return found or f"The call failed ({type(error).__name__})."
