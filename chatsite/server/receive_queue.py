"""Frames that a WebSocket's application has not received yet, bounded for each socket and for the whole process."""

from __future__ import annotations

import asyncio
from typing import Any, Final, Protocol

MAX_FRAMES: Final = 32  # frames of one socket that may wait; then it is not read
MAX_BYTES: Final = 262_144  # the same in bytes: one frame of the largest kind (FRAME_MAX_BYTES), or many small ones
OVERHEAD_BYTES: Final = 500  # of the objects around one frame, about: empty frames take memory too
# What the queues of all sockets take together. At 19,000 sockets a megabyte is 50 bytes each: above the budget a socket
# is read again when its own queue is empty, so that the process goes on, frame by frame, and nobody is shut out.
PROCESS_MAX_BYTES: Final = 67_108_864


class ReceiveBudget:
    """Bytes that the receive queues of one process hold together."""

    __slots__ = ("max_bytes", "pauses", "used")

    def __init__(self, max_bytes: int = PROCESS_MAX_BYTES) -> None:
        self.max_bytes = max_bytes
        self.used = 0
        self.pauses = 0  # sockets that were not read for a while because the budget was spent, for the metrics


class Reader(Protocol):
    """The protocol whose frames a queue holds."""

    def resume_reading(self) -> None:
        """Go on reading: the queue has room again."""


class ReceiveQueue:
    """Frames of one WebSocket in the order of their arrival. While `is_full` its reader adds no more."""

    __slots__ = ("_budget", "_bytes", "_loop", "_messages", "_reader", "_waiter", "is_full")

    def __init__(self, budget: ReceiveBudget, loop: asyncio.AbstractEventLoop, reader: Reader) -> None:
        self.is_full = False
        self._budget = budget
        self._loop = loop
        self._reader: Reader | None = reader
        self._messages: list[tuple[dict[str, Any], int]] = [({"type": "websocket.connect"}, 0)]
        self._bytes = 0
        self._waiter: asyncio.Future[None] | None = None

    def put(self, message: dict[str, Any], size: int) -> None:
        """Add a frame with `size` bytes of payload."""
        size += OVERHEAD_BYTES
        self._bytes += size
        self._budget.used += size
        if not self.is_full:
            if len(self._messages) + 1 >= MAX_FRAMES or self._bytes >= MAX_BYTES:
                self.is_full = True
            elif self._budget.used > self._budget.max_bytes:
                self.is_full = True
                self._budget.pauses += 1
        self._append(message, size)

    def end(self, message: dict[str, Any]) -> None:
        """Add the last message: the connection is over."""
        self._reader = None  # which holds this queue, too: nothing but the garbage collector would find the two
        self._append(message, 0)

    async def receive(self) -> dict[str, Any]:
        """Return the next message. One task may wait at a time."""
        while not self._messages:
            self._waiter = self._loop.create_future()
            await self._waiter
        message, size = self._messages.pop(0)
        self._bytes -= size
        self._budget.used -= size
        if self.is_full and self._has_room():
            self.is_full = False
            if self._reader is not None:
                self._reader.resume_reading()
        self._waiter = None
        return message

    def drop(self) -> None:
        """Drop all frames, also those that still come: the application has ended."""
        self._budget.used -= self._bytes
        self._bytes = 0
        self._messages.clear()
        self.is_full = True

    def _append(self, message: dict[str, Any], size: int) -> None:
        self._messages.append((message, size))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _has_room(self) -> bool:
        if not self._messages:
            return True
        few = len(self._messages) <= MAX_FRAMES // 2 and self._bytes <= MAX_BYTES // 2
        return few and self._budget.used <= self._budget.max_bytes
