"""The memory that the tails of all rooms of a process may take together. Pure."""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol


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
