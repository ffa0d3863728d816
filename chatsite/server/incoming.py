"""Bodies of HTTP requests and unfinished WebSocket messages in memory: each kind is bounded for the process. Pure."""

from __future__ import annotations

from typing import Final, Protocol

# A body stays in memory until its request is answered: 25 of the largest kind (REQUEST_MAX_BYTES), 1,000 of 64 KB. A
# message does until its last frame is whole: 256 of the largest kind (FRAME_MAX_BYTES).
PROCESS_MAX_BYTES: Final = 67_108_864
LARGEST: Final = 4  # there is room for at least so many, however large an operator lets them be


class Sender(Protocol):
    """A request whose body comes in or waits, or a WebSocket on which a message comes in."""

    def refuse_for_memory(self) -> None:
        """Give the peer an error, and take no more of what comes in."""


class Incoming:
    """Counts what comes in, by sender. Where there is no room, the one that has been coming in for longest is refused.

    So a client that sends slowly, of which there may be many, cannot keep the others away.
    """

    def __init__(self, *, largest_bytes: int, max_bytes: int = PROCESS_MAX_BYTES) -> None:
        self.max_bytes = max(max_bytes, LARGEST * largest_bytes)
        self.used = 0
        self.refused = 0
        self._unfinished: dict[Sender, int] = {}  # their bytes; the one that began first comes first
        self._whole: dict[Sender, int] = {}

    def grow(self, sender: Sender, size: int) -> bool:
        """Count a further part that came in. Return False, and count nothing of this sender, if there is no room."""
        self._unfinished.setdefault(sender, 0)
        while self.used + size > self.max_bytes:
            oldest = next(iter(self._unfinished))
            self.release(oldest)
            self.refused += 1
            if oldest is sender:
                return False
            oldest.refuse_for_memory()
        self._unfinished[sender] += size
        self.used += size
        return True

    def complete(self, sender: Sender) -> None:
        """Note that all of it came in. It is counted until `release`, and not refused any more."""
        self._whole[sender] = self._whole.get(sender, 0) + self._unfinished.pop(sender, 0)

    def release(self, sender: Sender) -> None:
        """Forget a sender: its body or message is in memory no more. Calling twice is calling once."""
        self.used -= self._unfinished.pop(sender, 0) + self._whole.pop(sender, 0)
