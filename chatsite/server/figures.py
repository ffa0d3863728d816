"""What this process' server has to tell the metrics, if the process is a gateway of ours."""

from __future__ import annotations

from typing import Protocol


class Server(Protocol):
    """A server."""

    def figures(self) -> dict[str, tuple[str, str, int]]:
        """Return by name: the kind (gauge or counter), what it is, and its value."""


_servers: list[Server] = []


def register(server: Server) -> None:
    """Say that this process serves."""
    _servers[:] = [server]


def of_server() -> dict[str, tuple[str, str, int]]:
    """Return the server's figures; none where another server runs the application."""
    return _servers[0].figures() if _servers else {}
