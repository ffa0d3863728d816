"""Bodies of HTTP requests in memory, bounded for the whole process. Pure."""

from __future__ import annotations

from typing import Final, Protocol

# A body stays in memory until its request is answered: 25 of the largest kind (REQUEST_MAX_BYTES), 1,000 of 64 KB.
PROCESS_MAX_BYTES: Final = 67_108_864
LARGEST_BODIES: Final = 4  # there is room for at least so many, however large an operator lets them be


class Body(Protocol):
    """A request whose body comes in or waits."""

    def refuse_for_memory(self) -> None:
        """Answer 503 and take no more of the body."""


class RequestBodies:
    """Counts the bodies of one process. Where there is no room, the body that has been coming in for longest goes.

    So a client that sends slowly, of which there may be many, cannot keep the others away.
    """

    def __init__(self, *, largest_bytes: int, max_bytes: int = PROCESS_MAX_BYTES) -> None:
        self.max_bytes = max(max_bytes, LARGEST_BODIES * largest_bytes)
        self.used = 0
        self.refused = 0
        self._incoming: dict[Body, int] = {}  # their bytes; the one that began first comes first
        self._whole: dict[Body, int] = {}

    def grow(self, body: Body, size: int) -> bool:
        """Count a further part of a body that comes in. Return False, and count nothing of it, if there is no room."""
        self._incoming.setdefault(body, 0)
        while self.used + size > self.max_bytes:
            oldest = next(iter(self._incoming))
            self.release(oldest)
            self.refused += 1
            if oldest is body:
                return False
            oldest.refuse_for_memory()
        self._incoming[body] += size
        self.used += size
        return True

    def complete(self, body: Body) -> None:
        """Note that a body is whole: its request is served now."""
        self._whole[body] = self._whole.get(body, 0) + self._incoming.pop(body, 0)

    def release(self, body: Body) -> None:
        """Forget a body: it was answered, or refused. Calling twice is calling once."""
        self.used -= self._incoming.pop(body, 0) + self._whole.pop(body, 0)
