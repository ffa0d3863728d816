"""Reads REDIS_URL: the servers that it names, and a connection to each. redis-py reads TLS, users and databases."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

CLUSTER_SCHEMES = {"redis+cluster://": "redis://", "rediss+cluster://": "rediss://"}
DEFAULT_PORT = 6379


@dataclass(frozen=True)
class Address:
    """One server and the options of its connections. Its text names no secret."""

    options: Mapping[str, Any]

    def __str__(self) -> str:
        return str(self.options.get("path") or f"{self.host}:{self.port}")

    @property
    def host(self) -> str:
        return str(self.options.get("host", "localhost"))

    @property
    def port(self) -> int:
        return int(self.options.get("port", DEFAULT_PORT))

    def at(self, host: str, port: int) -> Address:
        """Return a further node of the same cluster, which has the same users and certificates."""
        return Address({**self.options, "host": host, "port": port})

    async def connect(self, *, timeout: float) -> AbstractConnection:
        """Return an open connection. Raises redis.RedisError, OSError or TimeoutError after `timeout` seconds.

        Nothing else on it is timed by redis-py: an idle subscription may be silent for ever.
        """
        options = {**self.options, "socket_timeout": None, "socket_connect_timeout": timeout, "socket_keepalive": True}
        pool = ConnectionPool(**options, retry=Retry(NoBackoff(), 0))
        connection: AbstractConnection = pool.make_connection()  # type: ignore[no-untyped-call]
        try:
            async with asyncio.timeout(timeout):
                await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection


@dataclass(frozen=True)
class Servers:
    """The servers of REDIS_URL: several that share the rooms by a hash, or nodes from which a cluster is found."""

    addresses: tuple[Address, ...]
    is_cluster: bool


def parse(text: str) -> Servers:
    """Read REDIS_URL. Raises ImproperlyConfigured, without the text: it may hold a password."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise ImproperlyConfigured("REDIS_URL names no server.")
    scheme = next((scheme for scheme in CLUSTER_SCHEMES if parts[0].startswith(scheme)), None)
    if scheme is None:
        return Servers(tuple(_address(part) for part in parts), is_cluster=False)
    first = _address(CLUSTER_SCHEMES[scheme] + parts[0].removeprefix(scheme))
    if first.options.get("db") or first.options.get("path"):
        raise ImproperlyConfigured("REDIS_URL: a Redis Cluster has no databases; end the address after the port.")
    rest = [_address("redis://" + part.removeprefix(scheme)) for part in parts[1:]]
    # The query may stand at the end of the list, as in other multi-host addresses; user and password stand first.
    shared = {name: value for other in rest for name, value in other.options.items() if name not in ("host", "port")}
    first = Address({**shared, **first.options})
    return Servers((first, *(first.at(other.host, other.port) for other in rest)), is_cluster=True)


def _address(url: str) -> Address:
    try:
        return Address(dict(parse_url(url)))
    except ValueError as error:
        raise ImproperlyConfigured(
            "REDIS_URL must be redis://, rediss:// or unix:// addresses, or redis+cluster://host:port,host:port "
            f"({type(error).__name__})."
        ) from None
