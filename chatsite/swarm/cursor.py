"""What one member has seen of a room's log, and what is wrong with it. Pure."""

from __future__ import annotations


class Cursor:
    """A member's place in the log. Serials are gap-free: each member must see each one once, in order."""

    __slots__ = ("doubled", "holes", "late", "position", "start")

    def __init__(self, start: int) -> None:
        self.start = start  # the room's head when the member attached
        self.position = start  # the highest serial seen
        self.doubled = 0
        self.late = 0  # arrived after a later one
        self.holes: list[range] = []  # not seen, though a later one was

    def take(self, serial: int) -> None:
        """Note an arrival."""
        if serial == self.position + 1:
            self.position = serial
        elif serial > self.position:
            self.holes.append(range(self.position + 1, serial))
            self.position = serial
        elif self._fill(serial):
            self.late += 1
        else:
            self.doubled += 1

    def jump(self, position: int) -> bool:
        """Note that the server says where the member stands now. Return whether something was skipped."""
        if position <= self.position:
            return False
        self.holes.append(range(self.position + 1, position + 1))
        self.position = position
        return True

    def lost(self, head: int) -> int:
        """Return how many messages up to the log's head the member has not seen."""
        return sum(map(len, self.holes)) + max(0, head - self.position)

    def _fill(self, serial: int) -> bool:
        for place, hole in enumerate(self.holes):
            if serial in hole:
                parts = (range(hole.start, serial), range(serial + 1, hole.stop))
                self.holes[place : place + 1] = [part for part in parts if part]
                return True
        return False
