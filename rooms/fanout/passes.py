"""Runs the long work of a gateway in slices, so that accepting, heartbeats and other rooms are not delayed.

A pass over 20,000 sockets takes as long as a tenth of a second. It is a generator that yields every hundred
members; new generators and those under way take turns, so a room of ten is done between two steps of a large one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator

from rooms import faults

Steps = Iterator[None]


class Passes:
    """Runs generators on the event loop, for at most `slice_seconds` in one turn of the loop."""

    def __init__(self, *, slice_seconds: float) -> None:
        self.slices = 0  # turns of the loop that were used, for the metrics
        self._loop = asyncio.get_running_loop()
        self._slice_seconds = slice_seconds
        self._fresh: deque[Steps] = deque()
        self._begun: deque[Steps] = deque()
        self._fresh_next = True
        self._turn: asyncio.Handle | None = None

    @property
    def waiting(self) -> int:
        """The number of generators that have not ended."""
        return len(self._fresh) + len(self._begun)

    def start(self, steps: Steps) -> None:
        """Run a generator to its end; its first step comes before the next steps of those under way."""
        self._fresh.append(steps)
        if self._turn is None:
            self._turn = self._loop.call_soon(self._run_slice)

    async def run(self, steps: Steps) -> None:
        """Run a generator and return at its end. A cancelled caller stops waiting; the generator goes on."""
        ended = asyncio.Event()
        self.start(_signalling_end(steps, ended))
        await ended.wait()

    def close(self) -> None:
        """Drop all generators that have not ended."""
        if self._turn is not None:
            self._turn.cancel()
        self._fresh.clear()
        self._begun.clear()

    def _run_slice(self) -> None:
        until = self._loop.time() + self._slice_seconds
        self.slices += 1
        while self._fresh or self._begun:
            steps = self._choose()
            if _advance(steps):
                self._begun.append(steps)
            if self._loop.time() >= until:
                break
        self._turn = self._loop.call_soon(self._run_slice) if self._fresh or self._begun else None

    def _choose(self) -> Steps:
        """Return the next generator: fresh and begun ones in turn, so that neither kind waits for all of the other."""
        is_fresh = bool(self._fresh) and (self._fresh_next or not self._begun)
        self._fresh_next = not is_fresh
        return self._fresh.popleft() if is_fresh else self._begun.popleft()


def _advance(steps: Steps) -> bool:
    """Run one step of a generator. Return whether there are more."""
    try:
        next(steps)
    except StopIteration:
        return False
    except Exception:
        faults.record("hub pass")
        return False
    return True


def _signalling_end(steps: Steps, ended: asyncio.Event) -> Steps:
    try:
        yield from steps
    finally:
        ended.set()
