"""A member's cursor: how far it has seen its room's log, and the faults on the way. Pure."""

from __future__ import annotations


class Cursor:
    """A member's place in the log. Serials are gap-free: each member must see each one once, in order."""

    __slots__ = ("duplicated", "holes", "out_of_order", "position", "skipped", "start")

    def __init__(self, start: int) -> None:
        self.start = start  # the room's head when the member attached
        self.position = start  # the highest serial seen
        self.duplicated = 0
        self.out_of_order = 0  # arrived after a later one
        self.skipped = 0  # the server said that the member misses them
        self.holes: list[range] | None = None  # not seen, though a later one was; a list for each would be 56 bytes

    def add(self, serial: int) -> None:
        """Note an arrival."""
        if serial > self.position:
            self._advance(serial - 1)
            self.position = serial
        elif self._fill(serial):
            self.out_of_order += 1
        else:
            self.duplicated += 1

    def jump(self, position: int) -> bool:
        """Note the position at which the server says that the member is now. Return whether that skips something."""
        skipped = max(0, position - self.position)
        self.skipped += skipped
        self._advance(position)
        return skipped > 0

    def lost(self, head: int) -> int:
        """Return how many messages up to the log's head the member has not seen, skipped ones too."""
        return sum(map(len, self.holes or ())) + max(0, head - self.position)

    def _advance(self, position: int) -> None:
        """Move on to a position without seeing anything."""
        if position > self.position:
            self.holes = [*(self.holes or ()), range(self.position + 1, position + 1)]
            self.position = position

    def _fill(self, serial: int) -> bool:
        holes = self.holes or []
        for place, hole in enumerate(holes):
            if serial in hole:
                parts = (range(hole.start, serial), range(serial + 1, hole.stop))
                holes[place : place + 1] = [part for part in parts if part]
                return True
        return False
