"""manage.py gateway: one process that holds WebSockets and serves HTTP."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from rooms.database.patience import limit_statements


class Command(BaseCommand):
    """Serve on a listening socket that is inherited (--fd) or opened here (--host, --port)."""

    help = "Run one gateway: WebSockets and HTTP. `up` starts as many as there are cores."
    requires_system_checks = []  # they are about the code, not the installation: tests run them

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare where to listen."""
        parser.add_argument("--fd", type=int, help="Number of an inherited listening socket.")
        parser.add_argument("--board", type=Path, help="File by which gateways on one socket share what comes evenly.")
        parser.add_argument("--place", type=int, default=0, help="This gateway's own place there, from 0 to 63.")
        parser.add_argument("--host", default="127.0.0.1", help="Address to listen on (default: %(default)s).")
        parser.add_argument("--port", type=int, default=8000, help="Port to listen on (default: %(default)s).")

    def handle(self, *args: Any, **options: Any) -> None:
        """Serve until SIGTERM (members are sent elsewhere first) or SIGINT (at once)."""
        limit_statements()
        # Imported here: it installs Twisted's reactor, which no other command wants.
        from chatsite.asgi import serve
        from chatsite.server.board import Board
        from chatsite.server.process import GatewayServer

        listener = _listener(options["fd"], options["host"], options["port"])
        board = Board.open(options["board"], options["place"]) if options["board"] else None
        GatewayServer(serve, listener, board=board).run()


def _listener(fd: int | None, host: str, port: int) -> socket.socket:
    if fd is not None:
        listener = socket.socket(fileno=fd)
        listener.setblocking(False)
        return listener
    listener = socket.create_server((host, port), backlog=4096, reuse_port=False)
    listener.setblocking(False)
    return listener
