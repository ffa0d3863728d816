"""The messages that members receive, decoded once however many members receive them. Pure.

Members of a room get the very same bytes: `Reader` keeps the last chunks and frames. That makes 100,000 members on one
machine affordable. Moments are in steps of 0.1 ms of the monotonic clock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from chatsite.swarm.results.tally import Place, Seen, Token
from chatsite.swarm.wire.frames import Frame, Opcode, split

MARK = "swarm"
STEP_MICROSECONDS = 100
KEPT_BATCHES = 256  # and some more for each room
KEPT_BATCHES_PER_ROOM = 4
KEPT_BYTES = 33_554_432
KEPT_FRAMES = 4096


class Problem(msgspec.Struct, frozen=True):
    """The error of a protocol message."""

    code: int = 0
    message: str = ""

    def __str__(self) -> str:
        return f"{self.code} {self.message}"


class Content(msgspec.Struct, frozen=True):
    """A message of a room, as far as it is looked at."""

    data: Any = None
    timestamp: int | None = None


class Incoming(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A protocol message, as far as it is looked at. Those that bring messages of a room become Arrivals."""

    action: int
    channel: str | None = None
    channel_serial: str | None = None
    error: Problem | None = None
    msg_serial: int = 0
    count: int = 1
    res: list[dict[str, list[str | None]]] = []
    messages: list[Content] = []


class Arrival(msgspec.Struct, frozen=True):
    """A message of a room. `seen` is None if it is not one of this run."""

    room: int
    serial: int
    seen: Seen | None


Item = Arrival | Incoming | Frame


class Batch:
    """The messages in some bytes from the server, and how often those bytes were received at which step."""

    __slots__ = ("first", "items", "last", "receipts", "rest", "room")

    def __init__(self, items: list[Item], rest: bytes) -> None:
        self.items = items
        self.rest = rest  # the beginning of a frame
        self.receipts: dict[int, int] = {}  # since they were last counted
        self.first: int | None = None  # set only if all there is are messages of one room without a gap
        self.last = self.room = 0
        arrivals = [item for item in items if isinstance(item, Arrival)]
        serials = [arrival.serial for arrival in arrivals]
        if not arrivals or len(arrivals) < len(items) or len({arrival.room for arrival in arrivals}) > 1:
            return
        if serials == list(range(serials[0], serials[0] + len(serials))):
            self.first, self.last, self.room = serials[0], serials[-1], arrivals[0].room


class Reader:
    """Decodes what arrives, equal bytes once. `seen` has the run's messages and where they were."""

    def __init__(self, decode: Callable[[bytes, Reader], list[Item]], *, rooms: int = 1) -> None:
        self.seen: dict[Place, Seen] = {}
        self.batches: dict[bytes, Batch] = {}
        self._decode = decode
        self._frames: dict[bytes, list[Item]] = {}
        self._bytes = 0
        self._kept_batches = KEPT_BATCHES + KEPT_BATCHES_PER_ROOM * rooms

    def read(self, data: bytes) -> Batch:
        """Return the messages in some bytes. Raises PeerError and ValueError."""
        batch = self.batches.get(data)
        if batch is None:
            frames, rest = split(data)
            items: list[Item] = []
            for each in frames:
                items.extend(self._read_frame(each))
            batch = self.batches[data] = Batch(items, rest)
            self._bytes += len(data)
            while len(self.batches) > self._kept_batches or self._bytes > KEPT_BYTES:
                oldest = next(iter(self.batches))
                del self.batches[oldest]
                self._bytes -= len(oldest)
        return batch

    def note(self, place: Place, sent_at: int, timestamp: int | None) -> Seen:
        """Return the record of a message that was received at this place."""
        seen = self.seen.get(place)
        if seen is None:
            seen = self.seen[place] = Seen(sent_at, timestamp)
        return seen

    def _read_frame(self, each: Frame) -> list[Item]:
        if each.opcode not in (Opcode.TEXT, Opcode.BINARY):
            return [each]
        items = self._frames.get(each.payload)
        if items is None:
            items = self._frames[each.payload] = self._decode(each.payload, self)
            if len(self._frames) > KEPT_FRAMES:
                del self._frames[next(iter(self._frames))]
        return items


def mark_of(run: str) -> str:
    """Return how the data of a run's messages begins."""
    return f"{MARK}:{run}:"


def write_data(run: str, token: Token, *, sent_at: float, size: int) -> str:
    """Return a message's data: its token and the monotonic seconds of sending, filled up to `size` characters."""
    return f"{mark_of(run)}{token.publisher}:{token.number}:{int(sent_at * 1_000_000)}:".ljust(size, "x")


def read_data(data: str) -> tuple[Token, int]:
    """Return the token in some data with the run's mark, and the step at which it was sent. Raises ValueError."""
    _, _, publisher, number, sent, _ = data.split(":", 5)
    return Token(int(publisher), int(number)), int(sent) // STEP_MICROSECONDS
