"""The memory that the tails of all rooms of a process may take together. Pure."""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol


class Shrinkable(Protocol):
    """A holder of memory that can give up a part of it."""

    def shrink(self) -> int:
        """Drop about half of the kept memory and return the freed bytes; 0 if nothing was left."""


class Memory:
    """Limits the memory of all tails together; the room that has been quiet for longest gives up memory first."""

    def __init__(self, *, max_bytes: int) -> None:
        self.used = 0
        self._max_bytes = max_bytes
        self._quiet_first: OrderedDict[Shrinkable, None] = OrderedDict()

    def grew(self, tail: Shrinkable, size: int) -> None:
        """Note that a tail grew by `size` bytes (negative: shrank), and shrink the quietest tails above the limit."""
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
        """Free all memory of a tail whose room has no member here any more."""
        while freed := tail.shrink():
            self.used -= freed
        self._quiet_first.pop(tail, None)
