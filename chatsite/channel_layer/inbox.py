"""The inbox of one channel: messages that arrived and were not received yet, bounded in bytes."""

from __future__ import annotations

import asyncio
from collections import deque

OVERHEAD_BYTES = 100  # of the objects around one message, about


class Inbox:
    """A queue of at most `max_bytes`. Above it the oldest message is dropped; the hub reads it from Postgres."""

    def __init__(self, *, max_bytes: int) -> None:
        self.dropped = 0
        self._max_bytes = max_bytes
        self._bytes = 0
        self._messages: deque[bytes] = deque()
        self._arrived = asyncio.Event()

    def __len__(self) -> int:
        return len(self._messages)

    def put_nowait(self, message: bytes) -> None:
        """Append a message."""
        self._messages.append(message)
        self._bytes += len(message) + OVERHEAD_BYTES
        while self._bytes > self._max_bytes and len(self._messages) > 1:
            self._pop()
            self.dropped += 1
        self._arrived.set()

    async def get(self) -> bytes:
        """Return the oldest message, and wait for one if there is none."""
        while not self._messages:
            self._arrived.clear()
            await self._arrived.wait()
        return self._pop()

    def _pop(self) -> bytes:
        message = self._messages.popleft()
        self._bytes -= len(message) + OVERHEAD_BYTES
        return message
