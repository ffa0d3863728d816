"""One raw WebSocket, and the loop that serves thousands of them on one epoll descriptor."""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Sequence
from typing import Protocol

from chatsite.swarm.frames import Frame, NotWebSocket, Opcode, frame, handshake, split_handshake
from chatsite.swarm.messages import Arrival, Batch, Incoming, Reader

RECEIVE_BYTES = 65_536
WAIT_SECONDS = 0.02
ANSWERS = {Opcode.PING: Opcode.PONG, Opcode.CLOSE: Opcode.CLOSE}


class Listener(Protocol):
    """Who uses a connection."""

    def received(self, items: Sequence[Arrival | Incoming | Frame]) -> None:
        """Take what arrived, in order."""

    def received_run(self, batch: Batch) -> bool:
        """Take a batch of messages without a gap, if it goes on where this listener is; else return False."""

    def ended(self, reason: str) -> None:
        """The connection is gone; it was not closed from here."""


class Poller:
    """Waits for all connections of a process at once."""

    def __init__(self, address: tuple[str, int], reader: Reader, *, source: str | None = None) -> None:
        self.host = address
        self.address = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0]
        self.reader = reader
        self.source = source
        self.connections: dict[int, Connection] = {}
        self._epoll = select.epoll()

    def poll(self, seconds: float = WAIT_SECONDS) -> None:
        """Handle what is ready."""
        connections = self.connections
        for fd, events in self._epoll.poll(seconds):
            connection = connections.get(fd)  # one may have been closed by the handler of another
            if connection is not None:
                connection.ready(events)

    def add(self, connection: Connection) -> None:
        """Watch a connection."""
        fd = connection.socket.fileno()
        self.connections[fd] = connection
        self._epoll.register(fd, select.EPOLLIN | select.EPOLLOUT)

    def watch(self, connection: Connection, *, writable: bool) -> None:
        """Say whether a connection waits until it can be written to."""
        self._epoll.modify(connection.socket.fileno(), select.EPOLLIN | (select.EPOLLOUT if writable else 0))

    def remove(self, connection: Connection) -> None:
        """Forget a connection; closing its socket ends the watch."""
        self.connections.pop(connection.socket.fileno(), None)

    def close(self) -> None:
        """Drop everything."""
        for connection in list(self.connections.values()):
            connection.close()
        self._epoll.close()


class Connection:
    """One WebSocket from its handshake on."""

    __slots__ = ("_listener", "_opening", "_poller", "_rest", "_unsent", "is_open", "socket")

    def __init__(self, poller: Poller, listener: Listener, path: str) -> None:
        family, kind, protocol, _, address = poller.address
        self._poller = poller
        self._listener = listener
        self._rest = b""
        self._unsent = handshake(*poller.host, path)
        self._opening = True
        self.is_open = True
        self.socket = socket.socket(family, kind, protocol)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if poller.source is not None:
            # The port is drawn at connect(), so that one source port can serve several destinations.
            self.socket.setsockopt(socket.IPPROTO_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24), 1)
            self.socket.bind((poller.source, 0))
        poller.add(self)
        code = self.socket.connect_ex(address)
        if code not in (0, errno.EINPROGRESS):
            self._end(os.strerror(code))

    def send(self, data: bytes) -> None:
        """Send, now or as soon as the socket takes it."""
        if self._opening or self._unsent or not self.is_open:
            self._unsent += data
            return
        self._write(data)

    def ready(self, events: int) -> None:
        """Handle what epoll reported."""
        if events & select.EPOLLOUT and self.is_open:
            self._flush()
        if events & ~select.EPOLLOUT and self.is_open:
            self._read()

    def close(self) -> None:
        """Drop the connection without a word to the listener."""
        if self.is_open:
            self.is_open = False
            self._poller.remove(self)
            self.socket.close()

    def _read(self) -> None:
        try:
            data = self.socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(error.strerror or "reset")
            return
        if not data:
            self._end("the server closed the connection")
            return
        if self._rest:
            data = self._rest + data
        if self._opening:
            self._open(data)
        else:
            self._take(data)

    def _take(self, data: bytes) -> None:
        """Read frames. Equal bytes were decoded for another member already: then this is one look-up."""
        batch = self._poller.reader.batches.get(data)
        if batch is None:
            try:
                batch = self._poller.reader.read(data)
            except (NotWebSocket, ValueError) as error:
                self._end(str(error))
                return
        self._rest = batch.rest
        if batch.first is not None and self._listener.received_run(batch):
            return
        for item in batch.items:
            if isinstance(item, Frame) and item.opcode in ANSWERS:
                self.send(frame(ANSWERS[Opcode(item.opcode)], item.payload))
        self._listener.received(batch.items)

    def _open(self, data: bytes) -> None:
        try:
            rest = split_handshake(data)
        except NotWebSocket as error:
            self._end(str(error))
            return
        if rest is None:
            self._rest = data
            return
        self._opening, self._rest = False, b""
        if rest:
            self._take(rest)

    def _flush(self) -> None:
        data, self._unsent = self._unsent, b""
        self._poller.watch(self, writable=False)
        if data:
            self._write(data)

    def _write(self, data: bytes) -> None:
        try:
            sent = self.socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._end(error.strerror or "reset")
            return
        if sent < len(data):
            self._unsent = data[sent:]
            self._poller.watch(self, writable=True)

    def _end(self, reason: str) -> None:
        if self.is_open:
            self.close()
            self._listener.ended(reason)
