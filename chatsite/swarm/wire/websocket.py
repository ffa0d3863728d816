"""One raw WebSocket of a swarm."""

from __future__ import annotations

from collections.abc import Sequence

from chatsite.swarm.wire.frames import Frame, Opcode, frame, handshake, split_handshake
from chatsite.swarm.wire.messages import Batch, Item, Reader
from chatsite.swarm.wire.responses import PeerError
from chatsite.swarm.wire.stream import Owner, Poller, Stream

ANSWERS = {Opcode.PING: Opcode.PONG, Opcode.CLOSE: Opcode.CLOSE}


class Listener(Owner):
    """A member or a publisher, as its WebSocket sees it."""

    __slots__ = ()

    def opened(self) -> None:
        """The WebSocket is open."""

    def received(self, items: Sequence[Item]) -> None:
        """Handle items that arrived, in order."""
        raise NotImplementedError

    def received_run(self, batch: Batch) -> bool:
        """Handle a batch of messages without a gap if it goes on where this listener is; else return False."""
        return False


class WebSocket(Stream):
    """One WebSocket from its handshake on."""

    __slots__ = ("_batches", "_listener", "_opening", "_reader", "_rest")

    def __init__(
        self, poller: Poller, reader: Reader, listener: Listener, path: str, *, receive_buffer: int | None = None
    ) -> None:
        self._reader = reader
        self._batches = reader.batches
        self._listener = listener
        self._rest = b""
        self._opening = True
        super().__init__(poller, listener, handshake(*poller.host, path), receive_buffer=receive_buffer)

    def got(self, data: bytes) -> None:
        """Read frames. Equal bytes were decoded for another member already: then this is one look-up."""
        if self._rest:
            data = self._rest + data
        batch = self._batches.get(data) or self._read_new(data)
        if batch is None:
            return
        self._rest = batch.rest
        if batch.first is None or not self._listener.received_run(batch):
            self._hand_on(batch)

    def _read_new(self, data: bytes) -> Batch | None:
        if self._opening:
            self._open(data)
            return None
        try:
            return self._reader.read(data)
        except (PeerError, ValueError) as error:
            self.end(str(error))
            return None

    def _hand_on(self, batch: Batch) -> None:
        for item in batch.items:
            if isinstance(item, Frame) and item.opcode in ANSWERS:
                self.send(frame(ANSWERS[Opcode(item.opcode)], item.payload))
        self._listener.received(batch.items)

    def _open(self, data: bytes) -> None:
        try:
            rest = split_handshake(data)
        except PeerError as error:
            self.end(str(error), error.retry_after)
            return
        if rest is None:
            self._rest = data
            return
        self._opening, self._rest = False, b""
        self._listener.opened()
        if rest and self.is_open:
            self.got(rest)
