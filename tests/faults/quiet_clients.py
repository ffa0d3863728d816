"""Clients that take their time: they are opened early, so that no test has to wait long for them."""

from __future__ import annotations

import json
import select
import socket
import threading
import time
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from chatsite.swarm.wire.frames import Opcode, handshake, split, split_handshake
from rooms.protocol.wire import Action
from tests.patience import PATIENCE

ROOM = "idle"
BEGINNINGS = [
    b"GET / HTT",
    b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n",
    b"POST /channels/a/messages HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n\r\n{",
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
    b"",
]


class IdleMember:
    """A member that attaches and then only listens, in a thread of its own."""

    def __init__(self, url: str, key: str) -> None:
        address = url.replace("http", "ws", 1) + f"/?key={quote(key)}&v=3"
        self.socket = connect(address, ping_interval=None)
        self.attached_at = time.monotonic()
        self.messages: list[dict[str, Any]] = []
        self.is_connected = True
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Self:
        self.socket.send(json.dumps({"action": Action.ATTACH, "channel": ROOM}))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()
        self._thread.join(timeout=PATIENCE)

    def _listen(self) -> None:
        try:
            while True:
                message = json.loads(self.socket.recv())
                if message["action"] == Action.MESSAGE:
                    self.messages.append(message)
        except ConnectionClosed:
            self.is_connected = False


class Silent:
    """A connection that attaches to nothing, says nothing, and looks at the end at what it was sent meanwhile."""

    def __init__(self, port: int, key: str, *, heartbeats: bool) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.opened_at = time.monotonic()
        wanted = "&heartbeats=true" if heartbeats else ""
        self.socket.sendall(handshake("127.0.0.1", port, f"/?key={quote(key)}&v=3{wanted}"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def received(self) -> list[str]:
        """Return what came since the handshake, by its kind: an opcode's name, or a protocol message's action."""
        rest = split_handshake(self.socket.recv(65_536))
        assert rest is not None
        return [
            Action(json.loads(each.payload)["action"]).name if each.opcode == Opcode.TEXT else Opcode(each.opcode).name
            for each in split(rest)[0]
        ]


class Dripping:
    """A connection on which the head of a request comes byte by byte and never ends, from a thread of its own.

    With `first`, a whole request comes before: the same bound holds for those that follow.
    """

    def __init__(self, port: int, first: bytes = b"") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.opened_at = time.monotonic()
        self.dropped_after: float | None = None  # seconds
        self._first = first
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._drip, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=PATIENCE)
        self.socket.close()

    def _drip(self) -> None:
        try:
            self.socket.sendall(self._first + b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ")
            while not self._stop.wait(1):
                self.socket.sendall(b"x")
        except OSError:
            self.dropped_after = time.monotonic() - self.opened_at


class HalfSent:
    """A connection on which a request begins and never ends."""

    def __init__(self, port: int, number: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.opened_at = time.monotonic()
        self.socket.sendall(BEGINNINGS[number % len(BEGINNINGS)])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def is_dropped(self) -> bool:
        """Tell whether the server closed the connection, with or without an answer."""
        poll = select.poll()
        poll.register(self.socket, select.POLLIN | select.POLLRDHUP)
        return any(events & (select.POLLRDHUP | select.POLLHUP | select.POLLERR) for _, events in poll.poll(0))
