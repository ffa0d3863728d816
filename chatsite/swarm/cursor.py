"""What one member has seen of a room's log, and what is wrong with it. Pure."""

from __future__ import annotations


class Cursor:
    """A member's place in the log. Serials are gap-free: each member must see each one once, in order."""

    __slots__ = ("doubled", "holes", "late", "position", "skipped", "start")

    def __init__(self, start: int) -> None:
        self.start = start  # the room's head when the member attached
        self.position = start  # the highest serial seen
        self.doubled = 0
        self.late = 0  # arrived after a later one
        self.skipped = 0  # the server said that the member misses them
        self.holes: list[range] | None = None  # not seen, though a later one was; a list for each would be 56 bytes

    def take(self, serial: int) -> None:
        """Note an arrival."""
        if serial == self.position + 1:
            self.position = serial
        elif serial > self.position:
            self._miss(serial)
            self.position = serial
        elif self._fill(serial):
            self.late += 1
        else:
            self.doubled += 1

    def jump(self, position: int) -> bool:
        """Note that the server says where the member stands now. Return whether something was skipped."""
        if position <= self.position:
            return False
        self._miss(position + 1)
        self.skipped += position - self.position
        self.position = position
        return True

    def lost(self, head: int) -> int:
        """Return how many messages up to the log's head the member has not seen, told or untold."""
        return sum(map(len, self.holes or ())) + max(0, head - self.position)

    def _miss(self, end: int) -> None:
        self.holes = [*(self.holes or ()), range(self.position + 1, end)]

    def _fill(self, serial: int) -> bool:
        for place, hole in enumerate(self.holes or ()):
            if serial in hole:
                parts = (range(hole.start, serial), range(serial + 1, hole.stop))
                assert self.holes is not None
                self.holes[place : place + 1] = [part for part in parts if part]
                return True
        return False
