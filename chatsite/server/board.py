"""The board on which gateways that share a port publish how many connections each of them holds.

A small file in memory, one place a gateway: written by its owner, read by all. Nothing depends on it but fairness.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

PLACE = struct.Struct("dq")  # when it was written (monotonic seconds; the same clock for all), and connections held
PLACES = 64
STALE_SECONDS = 1.0  # a gateway that has written nothing for so long is dead, or hangs


class Board:
    """The board as one gateway uses it: it writes its own place and reads all."""

    def __init__(self, memory: mmap.mmap, place: int) -> None:
        self._memory = memory
        self._place = place

    @classmethod
    def open(cls, path: Path, place: int) -> Board:
        """Open the board's file, made now if it is new, as the owner of a place below PLACES."""
        number = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.ftruncate(number, PLACES * PLACE.size)
            return cls(mmap.mmap(number, PLACES * PLACE.size), place % PLACES)
        finally:
            os.close(number)

    def write(self, held: int, now: float) -> None:
        """Publish how many connections this gateway holds."""
        PLACE.pack_into(self._memory, self._place * PLACE.size, now, held)

    def erase(self) -> None:
        """Clear this gateway's place, so that the others do not wait for it."""
        self.write(0, 0.0)

    def least(self, now: float) -> int | None:
        """Return the fewest connections that another living gateway holds, None if there is no other."""
        found = [
            held
            for place, (written, held) in enumerate(PLACE.iter_unpack(self._memory[:]))
            if place != self._place and 0 <= now - written < STALE_SECONDS
        ]
        return min(found, default=None)
