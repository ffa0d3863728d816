"""Accepts connections from a socket that several gateways share: evenly, a few at a time, and not when full.

The kernel wakes whoever is quickest. A gateway that holds more than a sibling therefore waits a moment before it takes
from the queue; what nobody else has taken by then is its own, so no connection waits for somebody who is busy or dead.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from typing import Any

from chatsite.server.board import Board

logger = logging.getLogger(__name__)

AT_ONCE = 16  # accepted in one turn of the loop
LEAD = 8  # more connections than the gateway with the fewest, up to which one accepts at once ...
LEAD_SHARE = 0.02  # ... or this share of all that it holds
LEAD_SECONDS = 0.005
FAR_LEAD_SHARE = 0.1  # a sibling that is so far behind has just been started
FAR_LEAD_SECONDS = 0.03
FULL_SECONDS = 0.25  # a full gateway leaves a connection to others for so long; then it is answered 503
CROWDED_SECONDS = 0.02
BROKEN_SECONDS = 0.1
AGAIN = (errno.EAGAIN, errno.ECONNABORTED, errno.EPERM, errno.EINTR)


class Listener:
    """Accepts connections from a listening socket while the gateway may hold more."""

    def __init__(
        self,
        listening: socket.socket,
        loop: asyncio.AbstractEventLoop,
        *,
        board: Board | None,
        held: Callable[[], int],
        is_full: Callable[[], bool],
        has_room: Callable[[float], bool],
        accepted: Callable[[socket.socket, tuple[Any, ...], float], None],
    ) -> None:
        self.accepted = 0  # for the metrics
        self._listening = listening
        self._loop = loop
        self._board = board
        self._held = held
        self._is_full = is_full
        self._has_room = has_room
        self._take = accepted
        self._waiting: asyncio.TimerHandle | None = None
        self._is_open = True

    def start(self) -> None:
        """Accept from now on."""
        self._loop.add_reader(self._listening.fileno(), self._wake)

    def stop(self) -> None:
        """Accept no more. Connections in the socket's queue are left to other gateways, or to the next one."""
        if self._is_open:
            self._is_open = False
            self._pause(None)
            self._listening.close()
            if self._board is not None:
                self._board.erase()

    def share_count(self, now: float) -> None:
        """Publish on the board how many connections are held here. Call it a few times a second."""
        if self._board is not None and self._is_open:
            self._board.write(self._held(), now)

    def _wake(self) -> None:
        now = self._loop.time()
        wait = self._patience(now)
        if wait:
            self._pause(wait)
        else:
            self._accept(now, even_if_full=False)

    def _patience(self, now: float) -> float:
        """Seconds to leave a new connection to less loaded gateways; 0 if no other gateway is accepting."""
        if self._is_full():
            return FULL_SECONDS
        least = self._board.least(now) if self._board is not None else None
        if least is None:
            return 0.0
        held = self._held()
        lead = held - least
        if lead <= max(LEAD, held * LEAD_SHARE):
            return 0.0
        return FAR_LEAD_SECONDS if lead > max(LEAD * 4, held * FAR_LEAD_SHARE) else LEAD_SECONDS

    def _pause(self, seconds: float | None) -> None:
        """Accept nothing for a while; None: never again."""
        self._loop.remove_reader(self._listening.fileno())
        if self._waiting is not None:
            self._waiting.cancel()
        self._waiting = None if seconds is None else self._loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        """Accept connections that no other gateway has taken meanwhile, and go on."""
        self._waiting = None
        self._loop.add_reader(self._listening.fileno(), self._wake)
        self._accept(self._loop.time(), even_if_full=True)

    def _accept(self, now: float, *, even_if_full: bool) -> None:
        for _ in range(AT_ONCE):
            if self._is_full() and not even_if_full:
                break
            if not self._has_room(now):
                self._pause(CROWDED_SECONDS)
                break
            try:
                accepted, address = self._listening.accept()
            except OSError as error:
                if error.errno not in AGAIN:
                    logger.error("no connection can be accepted (%s)", errno.errorcode.get(error.errno or 0, "?"))
                    self._pause(BROKEN_SECONDS)
                break
            self.accepted += 1
            self._take(accepted, address, now)
        self.share_count(now)
