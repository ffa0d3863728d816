"""Twisted's transport of a TCP connection, with less work between the kernel and the protocol.

It registers with the asyncio loop itself: the reactor's way there makes a log context for each event.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet import error, main
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.python.failure import Failure

from chatsite.server.library_internals import TcpConnection
from rooms import faults

_CLOSED = Failure(main.CONNECTION_DONE)
_LOST = Failure(main.CONNECTION_LOST)


def address_of(address: tuple[Any, ...]) -> IPv4Address | IPv6Address:
    """Return the socket module's address as Twisted names it."""
    kind = IPv4Address if len(address) == 2 else IPv6Address
    return kind("TCP", address[0], address[1])


class Writer(Protocol):
    """A writer that bypasses Twisted, and does so only while Twisted's buffer is empty."""

    is_clear: bool


class Transport(TcpConnection):
    """The transport of an accepted connection. Calls `lost` once when the connection is over."""

    writer: Writer | None = None

    def __init__(
        self,
        accepted: socket.socket,
        client: tuple[Any, ...],
        protocol: Any,
        lost: Callable[[Transport], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        accepted.setblocking(False)
        super().__init__(accepted, client, protocol)
        self._lost = lost
        self._loop = loop

    def getHost(self) -> Any:
        """Return our own address (Twisted takes it from the socket, each time)."""
        return address_of(self.socket.getsockname())

    def getPeer(self) -> Any:
        """Return the peer's address."""
        return address_of(self.client)

    # --- The loop ----------------------------------------------------------------------------------------

    def startReading(self) -> None:
        """Call doRead whenever there is something to read."""
        self._loop.add_reader(self.fileno(), self._may_read)

    def stopReading(self) -> None:
        """Read no more: incoming bytes stay in the kernel."""
        if (number := self.fileno()) >= 0:
            self._loop.remove_reader(number)

    def startWriting(self) -> None:
        """Call doWrite whenever the kernel takes bytes."""
        if self.writer is not None:
            self.writer.is_clear = False
        self._loop.add_writer(self.fileno(), self._may_write)

    def stopWriting(self) -> None:
        """Call doWrite no more: nothing is unsent."""
        self._update_writer()
        if (number := self.fileno()) >= 0:
            self._loop.remove_writer(number)

    def read_now(self) -> None:
        """Read bytes that may be there already."""
        self._may_read()

    def _may_read(self) -> None:
        self._end_on_error(self.doRead)

    def _may_write(self) -> None:
        self._end_on_error(self.doWrite)

    def _end_on_error(self, work: Callable[[], Any]) -> None:
        try:
            why = work()
        except Exception:  # a fault in one connection ends that one alone
            faults.record("connection")
            why = main.CONNECTION_LOST
        if why and not self.disconnected:
            self.connectionLost(_CLOSED if isinstance(why, error.ConnectionDone) else _LOST)

    def abortConnection(self) -> None:
        """Drop the connection in the next turn of the loop. From now on it is not writable."""
        super().abortConnection()
        self.connected = 0
        self._update_writer()

    def connectionLost(self, reason: Any) -> None:
        """Close the socket, then tell the protocol and the server."""
        if not self.is_over:
            super().connectionLost(reason)
            self._update_writer()
            self.writer = None  # which holds this connection, too: nothing but the garbage collector would find the two
            self._lost(self)

    def _update_writer(self) -> None:
        if self.writer is not None:
            self.writer.is_clear = not self.unsent and bool(self.connected)
