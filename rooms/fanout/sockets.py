"""Writes to members: batches of frames, which are encoded once and shared by all members of an encoding.

A server may offer a Socket in the ASGI scope, under extensions, as "broadcast" (chatsite.server.process does); any
other ASGI server is served through its plain `send` by PlainSocket.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from rooms import faults
from rooms.protocol.wire import Format, ProtocolMessage, encode

CONNECTION_MAX_UNSENT_BYTES = 1_048_576  # unread replies above which a client is closed

Frames = bytes | tuple[bytes, ...]


class Framing(Enum):
    """The place where the WebSocket frame header is added."""

    FRAMED = "here, once for all members"
    PLAIN = "the ASGI server, for each"


@dataclass(frozen=True)
class Encoding:
    """A format and a framing. There are four encodings; all members of one get the very same bytes."""

    format: Format
    framing: Framing

    def piece(self, payload: bytes) -> bytes:
        """Return a payload as one piece of a batch."""
        return frame(payload, binary=self.format is Format.MSGPACK) if self.framing is Framing.FRAMED else payload

    def join(self, pieces: Sequence[bytes]) -> Frames:
        """Return pieces joined to a batch for `Socket.write`."""
        return b"".join(pieces) if self.framing is Framing.FRAMED else tuple(pieces)


ENCODINGS = {(wire_format, framing): Encoding(wire_format, framing) for wire_format in Format for framing in Framing}


class Socket(Protocol):
    """The sending side of one WebSocket. All methods return at once."""

    framing: Framing

    def write(self, batch: Frames) -> bool:
        """Send a batch and return True, or return False if earlier bytes are still unsent.

        Bytes that the kernel does not take at once are kept, so at most the rest of one batch waits here.
        """

    def reply(self, piece: bytes, *, binary: bool) -> None:
        """Send one piece after all unsent bytes; a client with too many unsent bytes is cut off."""

    def ping(self) -> bool:
        """Send a WebSocket ping if nothing is unsent. Return whether it was sent."""

    def was_quiet(self) -> bool:
        """Return whether nothing was sent since the last call."""

    def on_writable(self, callback: Callable[[], None]) -> None:
        """Call back once, as soon as nothing is unsent; never if the socket closes first.

        Several callbacks (for several rooms) take turns: when one of them fills the socket, the others come before it
        the next time.
        """


def send_reply(socket: Socket, encoding: Encoding, message: ProtocolMessage) -> None:
    """Send one protocol message to a client, after all unsent bytes."""
    payload = encode(message, encoding.format)
    socket.reply(encoding.piece(payload), binary=encoding.format is Format.MSGPACK)


def frame(payload: bytes, *, binary: bool) -> bytes:
    """Return a payload as one unmasked WebSocket frame (RFC 6455, section 5.2)."""
    opcode, size = (0x82 if binary else 0x81), len(payload)
    if size < 126:
        return bytes((opcode, size)) + payload
    if size < 65536:
        return struct.pack("!BBH", opcode, 126, size) + payload
    return struct.pack("!BBQ", opcode, 127, size) + payload


class PlainSocket:
    """A Socket that needs only ASGI's `send`. It has a task while something is unsent."""

    framing = Framing.PLAIN

    def __init__(
        self, send: Callable[[dict[str, Any]], Awaitable[None]], *, binary: bool, max_unsent_bytes: int
    ) -> None:
        self._send = send
        self._binary = binary
        self._max_unsent_bytes = max_unsent_bytes
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0
        self._callbacks: list[Callable[[], None]] = []
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self._is_quiet = False

    def write(self, batch: Frames) -> bool:
        """See Socket."""
        assert isinstance(batch, tuple)
        if self._unsent or self._task is not None:
            return False
        self._queue(batch)
        return True

    def reply(self, piece: bytes, *, binary: bool) -> None:
        """See Socket."""
        if self._unsent_bytes <= self._max_unsent_bytes:
            self._queue([piece])
        elif not self._closed:
            self.close()
            self._task = asyncio.create_task(self._send_close(), name="plain socket closes")

    def ping(self) -> bool:
        """See Socket. ASGI has no pings for applications: its server sends them."""
        return False

    def was_quiet(self) -> bool:
        """See Socket."""
        was_quiet, self._is_quiet = self._is_quiet, True
        return was_quiet

    def on_writable(self, callback: Callable[[], None]) -> None:
        """See Socket."""
        self._callbacks.append(callback)
        if self._task is None:
            asyncio.get_running_loop().call_soon(self._drained)

    def close(self) -> None:
        """Drop all unsent bytes and send nothing more."""
        self._closed = True
        self._unsent.clear()
        self._callbacks.clear()
        if self._task is not None:
            self._task.cancel()

    def _queue(self, pieces: Sequence[bytes]) -> None:
        if self._closed:
            return
        self._is_quiet = False
        self._unsent.extend(pieces)
        self._unsent_bytes += sum(map(len, pieces))
        if self._task is None:
            self._task = asyncio.create_task(self._send_all(), name="plain socket")

    async def _send_all(self) -> None:
        """Send until nothing is left. The server's ping timeout ends the wait for a peer that reads nothing."""
        try:
            while self._unsent:
                pieces, self._unsent = self._unsent, []
                for piece in pieces:
                    kind, payload = ("bytes", piece) if self._binary else ("text", piece.decode())
                    await self._send({"type": "websocket.send", kind: payload})
                    self._unsent_bytes -= len(piece)
        except Exception as error:
            self._closed = True
            self._unsent.clear()
            if not isinstance(error, OSError):  # ASGI servers raise OSError if the peer is gone
                faults.record("plain socket")
        finally:
            self._task = None
        self._drained()

    async def _send_close(self) -> None:
        """Close the connection of a peer that does not read, with 1008 (policy violation)."""
        try:
            await self._send({"type": "websocket.close", "code": 1008})
        except OSError:
            pass  # the peer is gone
        except Exception:
            faults.record("plain socket")

    def _drained(self) -> None:
        for _ in range(len(self._callbacks)):
            if self._unsent or self._task is not None or self._closed:
                return
            self._callbacks.pop(0)()
