"""Timers that wake the worker when a retry or a waiting batch becomes due."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

GRAIN_SECONDS = 0.01
SLACK_SECONDS = 0.001  # a claim that comes too early finds nothing


class Timers:
    """Calls `wake` at given times; times within GRAIN_SECONDS share a timer. Belongs to the running event loop."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._at: dict[int, asyncio.TimerHandle] = {}
        self._repeated: dict[float, bool] = {}

    def at(self, seconds: float) -> None:
        """Call `wake` after so many seconds."""
        loop = asyncio.get_running_loop()
        due = loop.time() + max(seconds, 0.0)
        place = int(due / GRAIN_SECONDS) + 1
        if place not in self._at:
            self._at[place] = loop.call_at(place * GRAIN_SECONDS + SLACK_SECONDS, self._fire, place)

    def repeat_once(self, seconds: float) -> None:
        """Call `wake` after so many seconds, and once more after as many if called again in between."""
        if seconds <= 0:
            return
        if seconds in self._repeated:
            self._repeated[seconds] = True
            return
        self._repeated[seconds] = False
        asyncio.get_running_loop().call_later(seconds + SLACK_SECONDS, self._fire_again, seconds)

    def close(self) -> None:
        """Cancel the timers."""
        for handle in self._at.values():
            handle.cancel()
        self._at.clear()

    def _fire(self, place: int) -> None:
        del self._at[place]
        self._wake()

    def _fire_again(self, seconds: float) -> None:
        if self._repeated.pop(seconds):
            self.repeat_once(seconds)
        self._wake()
