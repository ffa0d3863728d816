"""The fast way to write to a WebSocket, past autobahn and Daphne: this server's rooms.fanout.sockets.Socket."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from twisted.internet.interfaces import IPullProducer
from zope.interface import implementer

from chatsite.server import kernel
from chatsite.server.kernel import CONNECTION_DEAD_SECONDS
from chatsite.server.transport import Transport
from rooms.fanout.sockets import CONNECTION_MAX_UNSENT_BYTES, Frames, Framing

PING = b"\x89\x00"


@implementer(IPullProducer)
class BroadcastSocket:
    """A rooms.fanout.sockets.Socket that writes to a connection's kernel socket.

    While nothing is unsent a batch goes straight into the kernel, without the reactor's detour; what the kernel does
    not take waits here, and the hub is refused until it is gone. Such a peer is slow, and has longer to take something
    before the kernel gives it up.
    """

    __slots__ = ("_callbacks", "_first", "_is_over", "_is_quiet", "_send", "_slow", "_transport", "is_clear", "is_slow")

    framing = Framing.FRAMED

    def __init__(self, transport: Transport, slow: dict[BroadcastSocket, None]) -> None:
        self._transport = transport
        self._slow = slow  # slow peers of all connections, for the server, which calls end_patience
        self._send: Callable[..., int] = transport.socket.send
        # Nothing is unsent. The connection keeps it here: a pass over thousands of sockets that finds it in the
        # connection's own attributes takes a fifth longer, most of it waiting for memory.
        self.is_clear = True
        self._is_quiet = False
        self._is_over = False
        transport.writer = self
        self._callbacks: list[Callable[[], None]] | None = None
        self._first = b""
        self.is_slow = False

    @property
    def unsent(self) -> int:
        """Bytes that wait in this process for the peer to read."""
        return self._transport.unsent

    def write(self, batch: Frames) -> bool:
        """See rooms.fanout.sockets.Socket."""
        if not self.is_clear:
            return False
        try:
            sent = self._send(batch)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._transport.abortConnection()
            return False
        self._is_quiet = False
        if sent < len(batch):
            assert isinstance(batch, bytes)
            self._transport.keep_rest(batch, sent)
            if not self.is_slow:
                self._be_patient()
        return True

    def reply(self, piece: bytes, *, binary: bool) -> None:
        """See rooms.fanout.sockets.Socket."""
        if self._is_over:
            return
        if self._first:
            piece, self._first = self._first + piece, b""
        if self.write(piece):
            return
        if self.unsent > CONNECTION_MAX_UNSENT_BYTES:
            self._transport.abortConnection()
        else:
            self._transport.write(piece)

    def ping(self) -> bool:
        """See rooms.fanout.sockets.Socket. A peer with something unsent hears from us anyway, when it reads."""
        return self.write(PING)

    def was_quiet(self) -> bool:
        """See rooms.fanout.sockets.Socket."""
        was_quiet, self._is_quiet = self._is_quiet, True
        return was_quiet

    def on_writable(self, callback: Callable[[], None]) -> None:
        """See rooms.fanout.sockets.Socket."""
        if self._callbacks is not None:
            self._callbacks.append(callback)
            return
        self._callbacks = [callback]
        self._transport.registerProducer(self, False)

    def end(self) -> None:
        """Write nothing more: a Close frame was sent, and no frame may follow it (RFC 6455, section 5.5.1)."""
        self._is_over, self.is_clear = True, False
        self._transport.writer = None  # which would make this writable again

    # --- The answer to the handshake: in one write with what follows it in the same turn of the loop -----------

    def begin_with(self, piece: bytes) -> None:
        """Send a piece together with the first reply, or by `flush`."""
        self._first = piece

    def flush(self) -> None:
        """Send the piece of `begin_with` now: no reply came to carry it."""
        if self._first:
            self.reply(b"", binary=True)

    # --- Slow peers --------------------------------------------------------------------------------------

    def _be_patient(self) -> None:
        self.is_slow = True
        self._slow[self] = None
        self._give_up_after(settings.CONNECTION_SLOW_SECONDS)

    def end_patience(self) -> None:
        """Give a slow peer the usual time again if it has acknowledged everything; else look at it again later."""
        is_connected = self._transport.connected
        self.forget()
        if is_connected and (self.unsent or self._unacknowledged()):
            self.is_slow = True
            self._slow[self] = None
        elif is_connected:
            self._give_up_after(CONNECTION_DEAD_SECONDS)

    def forget(self) -> None:
        """Take the peer out of the slow ones: its connection is over, or it is slow no more."""
        self.is_slow = False
        self._slow.pop(self, None)

    def _unacknowledged(self) -> int:
        try:
            return kernel.unacknowledged(self._transport.socket)
        except OSError:
            return 0

    def _give_up_after(self, seconds: float) -> None:
        try:
            kernel.give_up_after(self._transport.socket, seconds)
        except OSError:
            pass  # it has just been lost

    # --- Twisted calls a pull producer whenever its buffer is empty: that is all that "writable" needs ---------

    def resumeProducing(self) -> None:
        """Call waiting writers, in turn, until one of them has filled the socket; the rest come first the next time."""
        callbacks = self._callbacks
        if callbacks is None or self.unsent or not self._transport.connected:
            return
        for _ in range(len(callbacks)):
            callbacks.pop(0)()
            if not self.is_clear:
                return
        if callbacks:
            self._transport.startWriting()  # one that asked again although it could write: in the next turn of the loop
        else:
            self._callbacks = None
            self._transport.unregisterProducer()

    def stopProducing(self) -> None:
        """Forget waiting writers: the connection is lost."""
        self._callbacks = None
