"""The server's figures for /metrics, if this process runs chatsite.server."""

from __future__ import annotations

from typing import Protocol

from chatsite.server.incoming import Incoming
from chatsite.server.receive_queue import ReceiveBudget

Figure = tuple[str, str, int]  # gauge or counter, a description, and the value


class Server(Protocol):
    """A server that has figures."""

    def figures(self) -> dict[str, Figure]:
        """Return for each name: gauge or counter, a description, and the value."""


_servers: list[Server] = []


def register(server: Server) -> None:
    """Make a server the one whose figures are shown."""
    _servers[:] = [server]


def of_server() -> dict[str, Figure]:
    """Return the server's figures; none where another server runs the application."""
    return _servers[0].figures() if _servers else {}


def of_memory(receive: ReceiveBudget, unfinished: Incoming, bodies: Incoming) -> dict[str, Figure]:
    """Return what waits in the server's memory, and what was refused for want of it."""
    return {
        "chat_receive_bytes": (
            "gauge",
            f"Frames that wait to be handled (limit: {receive.max_bytes} bytes; above it sockets are read in turn)",
            receive.used,
        ),
        "chat_reads_paused": (
            "counter",
            "Sockets not read for a while because too much waited in the process",
            receive.pauses,
        ),
        "chat_unfinished_message_bytes": (
            "gauge",
            f"Messages of which only a part has come in (limit: {unfinished.max_bytes} bytes)",
            unfinished.used,
        ),
        "chat_unfinished_messages_refused": (
            "counter",
            "WebSockets closed with 1013: there was no room for the message that came in",
            unfinished.refused,
        ),
        "chat_request_body_bytes": (
            "gauge",
            f"Bodies of HTTP requests that are not answered yet (limit: {bodies.max_bytes} bytes)",
            bodies.used,
        ),
        "chat_request_bodies_refused": (
            "counter",
            "HTTP requests refused with 503: there was no room for their bodies",
            bodies.refused,
        ),
    }
