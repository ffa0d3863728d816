"""What a swarm says and reads: protocol messages with a timestamp in their data. Pure.

Members of a room get the very same bytes, so a process decodes each chunk of bytes once, however many members
receive it: `Reader` keeps the last ones. That is what makes 100,000 members on one machine affordable.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from chatsite.swarm.findings import Place, Token
from chatsite.swarm.frames import Frame, Opcode, frame, split
from rooms import serials
from rooms.wire import Action, Format

MICROSECONDS = 1_000_000
KEPT_BATCHES = 256
MARK = "swarm"


class Problem(msgspec.Struct, frozen=True):
    """The error of a protocol message."""

    code: int = 0
    message: str = ""


class Content(msgspec.Struct, frozen=True):
    """As much of a message as is looked at."""

    data: Any = None


class Incoming(msgspec.Struct, frozen=True, rename="camel"):
    """As much of a protocol message as is looked at."""

    action: int
    channel_serial: str | None = None
    error: Problem | None = None
    messages: list[Content] = []
    msg_serial: int = 0
    count: int = 1
    res: list[dict[str, list[str | None]]] = []


class Arrival(msgspec.Struct, frozen=True):
    """A message of the room. `sent_at` is monotonic seconds, None if it is not one of this run."""

    serial: int
    sent_at: float | None
    token: Token | None


class Batch:
    """What some bytes from the server hold."""

    __slots__ = ("first", "items", "last", "rest", "sent_at")

    def __init__(self, items: list[Arrival | Incoming | Frame], rest: bytes) -> None:
        self.items = items
        self.rest = rest  # the beginning of a frame
        self.sent_at = [item.sent_at for item in items if isinstance(item, Arrival) and item.sent_at is not None]
        arrived = [item.serial for item in items if isinstance(item, Arrival)]
        self.first: int | None = None  # set only if all there is are messages without a gap
        self.last = 0
        if arrived and len(arrived) == len(items) and arrived == list(range(arrived[0], arrived[0] + len(arrived))):
            self.first, self.last = arrived[0], arrived[-1]


class Reader:
    """Decodes what arrives, equal bytes once. `places` has the run's messages and their serials."""

    def __init__(self, run: str, wire_format: Format) -> None:
        self.places: set[Place] = set()
        self.batches: dict[bytes, Batch] = {}
        self._mark = f"{MARK}:{run}:"
        self._decode = _decoder_of(wire_format)

    def read(self, data: bytes) -> Batch:
        """Return what data holds. Raises NotWebSocket and msgspec.MsgspecError."""
        batch = self.batches.get(data)
        if batch is None:
            frames, rest = split(data)
            items: list[Arrival | Incoming | Frame] = []
            for each in frames:
                items.extend(self._read_frame(each))
            batch = self.batches[data] = Batch(items, rest)
            if len(self.batches) > KEPT_BATCHES:
                del self.batches[next(iter(self.batches))]
        return batch

    def _read_frame(self, each: Frame) -> list[Arrival | Incoming | Frame]:
        if each.opcode not in (Opcode.TEXT, Opcode.BINARY):
            return [each]
        message = self._decode(each.payload)
        if message.action != Action.MESSAGE:
            return [message]
        return [self._arrival(position_of(message.channel_serial), content.data) for content in message.messages]

    def _arrival(self, serial: int, data: Any) -> Arrival:
        if not isinstance(data, str) or not data.startswith(self._mark):
            return Arrival(serial, None, None)
        _, _, publisher, number, sent, _ = data.split(":", 5)
        token = Token(int(publisher), int(number))
        self.places.add((serial, token))
        return Arrival(serial, int(sent) / MICROSECONDS, token)


class Writer:
    """Encodes what a swarm says, as frames ready to be sent."""

    def __init__(self, run: str, wire_format: Format) -> None:
        self._run = run
        self._opcode = Opcode.BINARY if wire_format is Format.MSGPACK else Opcode.TEXT
        self._encode = msgspec.msgpack.encode if wire_format is Format.MSGPACK else msgspec.json.encode

    def attach(self, room: str, *, after: str | None = None) -> bytes:
        """Return an ATTACH, after a channelSerial if the member was there before."""
        message: dict[str, Any] = {"action": Action.ATTACH, "channel": room}
        return self._frame(message | ({"channelSerial": after} if after else {}))

    def publish(self, room: str, msg_serial: int, token: Token, *, sent_at: float, size: int) -> bytes:
        """Return a MESSAGE of `size` bytes of data. Its id makes publishing it again harmless."""
        data = f"{MARK}:{self._run}:{token.publisher}:{token.number}:{int(sent_at * MICROSECONDS)}:".ljust(size, "x")
        content = {"id": f"{self._run}-{token.publisher}-{token.number}", "name": MARK, "data": data}
        message = {"action": Action.MESSAGE, "msgSerial": msg_serial, "channel": room, "messages": [content]}
        return self._frame(message)

    def heartbeat(self) -> bytes:
        """Return a HEARTBEAT."""
        return self._frame({"action": Action.HEARTBEAT})

    def _frame(self, message: dict[str, Any]) -> bytes:
        return frame(self._opcode, self._encode(message))


def position_of(channel_serial: str | None) -> int:
    """Return the position that a channelSerial shows. Raises ValueError for one that is none of ours."""
    decoded = serials.decode(channel_serial or "")
    if decoded is None:
        raise ValueError("The server sent a message without a serial of the form that the swarm checks.")
    return decoded[1]


def _decoder_of(wire_format: Format) -> Callable[[bytes], Incoming]:
    if wire_format is Format.MSGPACK:
        return msgspec.msgpack.Decoder(Incoming).decode
    return msgspec.json.Decoder(Incoming).decode
