"""What all rooms of a process may keep in memory together: tails of their logs, and frames that are encoded. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Protocol

from rooms.fanout.sockets import Frames


class Shrinkable(Protocol):
    """What gives memory back when it is asked to."""

    def shrink(self) -> int:
        """Drop about half of what is kept and return how many bytes that were; 0 if nothing is left."""


class Memory:
    """A limit for all tails together. The room that has been quiet for longest gives first."""

    def __init__(self, *, max_bytes: int) -> None:
        self.used = 0
        self._max_bytes = max_bytes
        self._quiet_first: OrderedDict[Shrinkable, None] = OrderedDict()

    def grew(self, tail: Shrinkable, size: int) -> None:
        """Note that a tail grew by so many bytes (shrank, if negative), and take them where they are missed least."""
        self.used += size
        if size <= 0:
            return
        self._quiet_first[tail] = None
        self._quiet_first.move_to_end(tail)
        while self.used > self._max_bytes and self._quiet_first:
            quietest = next(iter(self._quiet_first))
            freed = quietest.shrink()
            self.used -= freed
            if not freed:
                del self._quiet_first[quietest]

    def release(self, tail: Shrinkable) -> None:
        """Forget a tail with all that it kept: its room has no member here any more."""
        while freed := tail.shrink():
            self.used -= freed
        self._quiet_first.pop(tail, None)


class FrameCache:
    """Encoded batches that several members want, by a key that names their content; the last ones used stay."""

    def __init__(self, *, max_bytes: int) -> None:
        self.bytes_kept = 0
        self._max_bytes = max_bytes
        self._batches: OrderedDict[Hashable, Frames] = OrderedDict()

    def get(self, key: Hashable) -> Frames | None:
        """Return a batch, None if it is not kept."""
        batch = self._batches.get(key)
        if batch is not None:
            self._batches.move_to_end(key)
        return batch

    def put(self, key: Hashable, batch: Frames) -> None:
        """Keep a batch, and drop the ones that nobody has asked for lately."""
        self._batches[key] = batch
        self.bytes_kept += _size_of(batch)
        while self.bytes_kept > self._max_bytes:
            _, dropped = self._batches.popitem(last=False)
            self.bytes_kept -= _size_of(dropped)


def _size_of(batch: Frames) -> int:
    return len(batch) if isinstance(batch, bytes) else sum(map(len, batch))
