"""The server's figures for /metrics, if this process runs chatsite.server."""

from __future__ import annotations

from typing import Protocol


class Server(Protocol):
    """A server that has figures."""

    def figures(self) -> dict[str, tuple[str, str, int]]:
        """Return for each name: gauge or counter, a description, and the value."""


_servers: list[Server] = []


def register(server: Server) -> None:
    """Make a server the one whose figures are shown."""
    _servers[:] = [server]


def of_server() -> dict[str, tuple[str, str, int]]:
    """Return the server's figures; none where another server runs the application."""
    return _servers[0].figures() if _servers else {}
