"""One raw TCP connection, and the loop that serves thousands of them on one epoll descriptor."""

from __future__ import annotations

import errno
import itertools
import os
import select
import socket
import ssl
import struct
import time
from collections.abc import Iterator, Sequence

from chatsite.swarm.plan import LOOPBACK, Plan
from chatsite.swarm.results.latency import STEPS_PER_SECOND

RECEIVE_BYTES = 65_536
READS_AT_ONCE = 16  # of one connection; then the others have their turn
EVENTS_PER_LOOK_AT_THE_CLOCK = 16
NAP_BELOW_EVENTS = 256  # a process that is this busy gathers enough as it is
NO_LINGER = struct.pack("ii", 1, 0)  # closing resets: no port stays taken for a minute
NO_PORT_AT_BIND = getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24)
OUT, END = select.EPOLLOUT, select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
EDGE = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLOUT | select.EPOLLET
NOT_YET = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
HINTS = {
    errno.EADDRNOTAVAIL: (
        "no free port to connect from: one address has some 28,000; run a part of the swarm on another machine"
    ),
    errno.EMFILE: "no free descriptor: raise the limit (ulimit -n), or use more --processes",
    errno.ENFILE: "the whole system has no free descriptor: raise fs.file-max",
}


class Owner:
    """A member or a publisher, as its connection sees it."""

    __slots__ = ()

    def open(self) -> None:
        """Connect. Raises OSError where this machine has no room for another connection."""
        raise NotImplementedError

    def ended(self, reason: str, retry_after: float | None) -> None:
        """The connection is gone; it was not closed from here."""
        raise NotImplementedError

    def connect(self) -> None:
        """Open a connection, or report why this machine has none."""
        try:
            self.open()
        except OSError as error:
            self.ended(words_for(error), None)


class Poller:
    """Waits for all connections of a process at once. `step` is the time, in steps of 0.1 ms, to within some events."""

    def __init__(self, plan: Plan, sources: Sequence[str], *, nap: float = 0.0) -> None:
        self.host = plan.address
        self.tls = tls_context(plan)
        self.step = 0
        self._address = socket.getaddrinfo(*plan.address, type=socket.SOCK_STREAM)[0]
        self._nap = nap  # seconds; each saves the server and this process wake-ups, and is added to latencies
        self._sources: Iterator[str | None] = itertools.cycle(sources or [None])
        self._streams: dict[int, Stream] = {}
        self._epoll = select.epoll()

    def poll(self, seconds: float) -> None:
        """Handle what is ready; wait for it at most this long."""
        streams = self._streams
        ready = self._epoll.poll(max(0.0, seconds))
        if self._nap and len(ready) < NAP_BELOW_EVENTS:
            time.sleep(self._nap)
        for start in range(0, len(ready), EVENTS_PER_LOOK_AT_THE_CLOCK):
            self.step = int(time.monotonic() * STEPS_PER_SECOND)
            for fd, events in ready[start : start + EVENTS_PER_LOOK_AT_THE_CLOCK]:
                stream = streams.get(fd)  # one may have been closed by the handler of another
                if stream is not None:
                    stream.ready(events)

    def connect(self, receive_buffer: int | None) -> socket.socket:
        """Return a new socket that connects. Raises OSError where this machine has no room for another connection."""
        family, kind, protocol, _, address = self._address
        made = socket.socket(family, kind, protocol)
        if self.tls is not None:
            made = self.tls.wrap_socket(made, server_hostname=self.host[0], do_handshake_on_connect=False)
        made.setblocking(False)
        if receive_buffer is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        source = next(self._sources)
        if source is not None:
            # The port is drawn at connect(), so that one source port can serve several destinations.
            made.setsockopt(socket.IPPROTO_IP, NO_PORT_AT_BIND, 1)
            made.bind((source, 0))
        code = made.connect_ex(address)
        if code and code != errno.EINPROGRESS:
            made.close()
            raise OSError(code, os.strerror(code))
        return made

    def watch(self, stream: Stream) -> None:
        """Report to a stream from now on when it is ready. Edges only: nothing is looked at twice."""
        fd = stream.socket.fileno()
        self._streams[fd] = stream
        self._epoll.register(fd, EDGE)

    def look_again(self, stream: Stream) -> None:
        """Report to a stream in the next round again that it is ready."""
        self._epoll.modify(stream.socket.fileno(), EDGE)

    def ignore(self, stream: Stream) -> None:
        """Report nothing to a stream any more."""
        if self._streams.pop(stream.socket.fileno(), None) is not None:
            self._epoll.unregister(stream.socket.fileno())

    def close(self) -> None:
        """Drop all connections."""
        for stream in list(self._streams.values()):
            stream.close(reset=True)
        self._epoll.close()


class Stream:
    """One connection. Subclasses implement `got`; `ready` is the hot path of the whole tool."""

    __slots__ = ("_owner", "_poller", "_receive", "_unsent", "is_open", "socket")

    def __init__(self, poller: Poller, owner: Owner, opening: bytes, *, receive_buffer: int | None = None) -> None:
        """Connect and send `opening`. Raises OSError where this machine has no room for another connection."""
        self._poller = poller
        self._owner = owner
        self._unsent = opening
        self.socket = poller.connect(receive_buffer)
        self.is_open = True
        self._receive = self.socket.recv
        poller.watch(self)

    def got(self, data: bytes) -> None:
        """Handle bytes that arrived."""
        raise NotImplementedError

    def send(self, data: bytes) -> None:
        """Send, now or as soon as the socket takes it."""
        if self._unsent or not self.is_open:
            self._unsent += data
        else:
            self._write(data)

    def ready(self, events: int) -> None:
        """Handle what epoll reported."""
        if self._unsent and events & OUT:
            data, self._unsent = self._unsent, b""
            self._write(data)
        if events & ~OUT or self._poller.tls is not None:
            self._read(events & END)

    def read(self, size: int) -> None:
        """Receive at most this many bytes of what has arrived."""
        if self.is_open and (data := self._try_to_receive(size)):
            self.got(data)

    def quicken(self) -> None:
        """Read everything that comes again, after the poller has ignored this stream for a while."""
        if self.is_open:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
            self._poller.watch(self)
            self._read(END)  # what TLS has decrypted already is no event

    def close(self, *, reset: bool = False) -> None:
        """Drop the connection without a word to its owner."""
        if self.is_open:
            self.is_open = False
            self._poller.ignore(self)
            if reset:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            self.socket.close()

    def end(self, reason: str, retry_after: float | None = None) -> None:
        """Drop the connection and report the reason to its owner."""
        if self.is_open:
            self.close()
            self._owner.ended(reason, retry_after)

    def _read(self, end: int) -> None:
        for _ in range(READS_AT_ONCE):
            data = self._try_to_receive(RECEIVE_BYTES)
            if not data:
                return
            self.got(data)
            if not self.is_open:
                return
            # A short read has emptied the socket of bytes, though not of an end that came with them, which epoll
            # reports only this once. TLS hands out records: there only an error says that nothing is left.
            if len(data) < RECEIVE_BYTES and not end and self._poller.tls is None:
                return
        self._poller.look_again(self)

    def _try_to_receive(self, size: int) -> bytes:
        try:
            data = self._receive(size)
        except NOT_YET:
            return b""
        except OSError as error:
            self.end(words_for(error))
            return b""
        if not data:
            self.end("the server closed the connection")
        return data

    def _write(self, data: bytes) -> None:
        try:
            sent = self.socket.send(data)
        except NOT_YET:
            sent = 0
        except OSError as error:
            self.end(words_for(error))
            return
        self._unsent = data[sent:]


def tls_context(plan: Plan) -> ssl.SSLContext | None:
    """Return how to speak TLS to a plan's server; None where it speaks plainly.

    A server on this machine may have any certificate: whoever could stand between is on this machine, too.
    """
    if not plan.is_tls:
        return None
    context = ssl.create_default_context()
    if plan.address[0] in LOOPBACK:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def words_for(error: OSError) -> str:
    """Return what an error of a socket means for a swarm."""
    if isinstance(error, ssl.SSLError):
        return str(error)
    return HINTS.get(error.errno or 0) or error.strerror or str(error)
