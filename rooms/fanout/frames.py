"""Encodes entries of the log as frames, once for all members that get the same ones."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence

from rooms.fanout.sockets import Encoding, Frames
from rooms.fanout.tail import Tail
from rooms.log.directory import RoomRef
from rooms.log.entries import Entry, first_within
from rooms.protocol.serials import encode as encode_serial
from rooms.protocol.wire import Action, ProtocolMessage, encode, for_format

PASS_MAX_BYTES = 65_536  # of one write to a member in step, and so the most that a full socket leaves unsent
LAGGING_MAX_BYTES = 16_384  # of one write to a member that catches up; a single message may exceed both
SHARED_RUN = 32  # serials; members that catch up stop at multiples of it, and so meet in the same batches


class FrameCache:
    """Encoded batches that several members get, by a key for their content; the least recently used are dropped."""

    def __init__(self, *, max_bytes: int) -> None:
        self.bytes_kept = 0
        self._max_bytes = max_bytes
        self._batches: OrderedDict[Hashable, Frames] = OrderedDict()

    def get(self, key: Hashable) -> Frames | None:
        """Return the batch of a key; None if it is not cached."""
        batch = self._batches.get(key)
        if batch is not None:
            self._batches.move_to_end(key)
        return batch

    def put(self, key: Hashable, batch: Frames) -> None:
        """Cache a batch, and drop the least recently used ones."""
        self._batches[key] = batch
        self.bytes_kept += _size_of(batch)
        while self.bytes_kept > self._max_bytes:
            _, dropped = self._batches.popitem(last=False)
            self.bytes_kept -= _size_of(dropped)


def _size_of(batch: Frames) -> int:
    return len(batch) if isinstance(batch, bytes) else sum(map(len, batch))


class FrameEncoder:
    """Encodes the entries of one hub, with a cache that all hubs share."""

    def __init__(self, room: RoomRef, tail: Tail, cache: FrameCache) -> None:
        self._room = room
        self._tail = tail
        self._cache = cache
        self._mark = object()  # of this hub: a later one of the same room counts other edits

    def of(self, encoding: Encoding, start: int, end: int, entries: Sequence[Entry]) -> Frames:
        """Return the batch of the entries after `start` up to `end`: the same object on each call."""
        # With the number of edits: a batch encoded before an edit is not sent after it.
        key = (self._mark, self._tail.changes, encoding, start, end)
        batch = self._cache.get(key)
        if batch is None:
            batch = encoding.join([self._piece(encoding, entry) for entry in entries])
            self._cache.put(key, batch)
        return batch

    def without(self, connection_id: str, encoding: Encoding, entries: Sequence[Entry]) -> Frames:
        """Return the batch of the entries that other connections have written."""
        others = [entry for entry in entries if entry.wire.connection_id != connection_id]
        return encoding.join([self._piece(encoding, entry) for entry in others])

    def _piece(self, encoding: Encoding, entry: Entry) -> bytes:
        message = ProtocolMessage(
            action=Action.MESSAGE,
            channel=self._room.name,
            channel_serial=encode_serial(self._room.epoch, entry.serial),
            connection_id=entry.wire.connection_id,
            timestamp=entry.wire.timestamp,
            messages=[for_format(entry.wire, encoding.format)],
        )
        return encoding.piece(encode(message, encoding.format))


def up_to_shared_end(entries: Sequence[Entry]) -> Sequence[Entry]:
    """Return the entries up to the last one at a multiple of SHARED_RUN; all of them if there is none."""
    for place in range(len(entries) - 1, -1, -1):
        if entries[place].serial % SHARED_RUN == 0:
            return entries[: place + 1]
    return entries


def parts(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """Cut entries that were read from Postgres into the writes of a member that catches up."""
    while entries:
        part = up_to_shared_end(first_within(entries, LAGGING_MAX_BYTES))
        yield part
        entries = entries[len(part) :]
