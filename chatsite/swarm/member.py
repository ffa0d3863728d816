"""One member of a room: it attaches, receives, checks what it receives, and comes back where it was."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from chatsite.swarm import nchan, realtime
from chatsite.swarm.connection import Connection
from chatsite.swarm.cursor import Cursor
from chatsite.swarm.messages import Arrival, Batch, Incoming, Item
from chatsite.swarm.plan import Protocol
from rooms.protocol import serials
from rooms.protocol.wire import Action

if TYPE_CHECKING:
    from chatsite.swarm.crowd import Crowd

HOPELESS = range(40000, 50000)  # errors that trying again does not mend
SLOW_BUFFER_BYTES = 4096
TURNS = (Action.ERROR, Action.DETACHED, Action.DISCONNECTED)


class Member:
    """One member. `live_from` is a step while it catches up with what was sent before: that is not live latency."""

    __slots__ = (
        "_crowd",
        "_epoch",
        "attempts",
        "connection",
        "cursor",
        "is_attached",
        "live_from",
        "opened_at",
        "room",
        "strayed",
    )

    receive_buffer: int | None = None

    def __init__(self, crowd: Crowd, room: int) -> None:
        self._crowd = crowd
        self._epoch = ""
        self.room = room
        self.cursor: Cursor | None = None
        self.connection: Connection | None = None
        self.is_attached = False
        self.live_from = 0
        self.opened_at = 0.0
        self.attempts = 0  # since it was last attached
        self.strayed = 0  # messages of other rooms

    @property
    def position(self) -> int:
        """The highest serial seen; 0 before the first ATTACHED."""
        return self.cursor.position if self.cursor is not None else 0

    def open(self) -> None:
        """Connect. Raises OSError where this machine has no room for another connection."""
        crowd = self._crowd
        self.opened_at = time.monotonic()
        path = crowd.path or nchan.path_of(crowd.plan, self.room)
        self.connection = Connection(crowd.poller, crowd.reader, self, path, receive_buffer=self.receive_buffer)

    def opened(self) -> None:
        """See Listener: a peer without a protocol of its own has its members from here on."""
        if self._crowd.plan.protocol is Protocol.NCHAN:
            self._enter(self.position)

    def received_run(self, batch: Batch) -> bool:
        """See Listener."""
        cursor = self.cursor
        if cursor is None or batch.first != cursor.position + 1 or batch.room != self.room or self.live_from:
            return False
        cursor.position = batch.last
        step, receipts = self._crowd.poller.step, batch.receipts
        if step in receipts:
            receipts[step] += 1
        else:
            if not receipts:
                self._crowd.timings.fresh.append(batch)
            receipts[step] = 1
        return True

    def received(self, items: Sequence[Item]) -> None:
        """See Listener."""
        for item in items:
            if isinstance(item, Arrival):
                self._arrived(item)
            elif isinstance(item, Incoming):
                self._handle(item)

    def ended(self, reason: str, retry_after: float | None) -> None:
        """See Listener."""
        self._crowd.cut_off(self, reason, retry_after)

    def _arrived(self, arrival: Arrival) -> None:
        if self.cursor is None or arrival.room != self.room:
            self.strayed += 1
            return
        self.cursor.take(arrival.serial)
        if self.live_from and arrival.seen is not None and arrival.seen.sent_at >= self.live_from:
            self.live_from = 0
        self._note(arrival)

    def _note(self, arrival: Arrival) -> None:
        crowd = self._crowd
        if not self.live_from:
            crowd.timings.add(arrival, crowd.poller.step)
            return
        crowd.timings.delivered += 1
        if arrival.seen is not None:
            crowd.catch_up.add_steps(crowd.poller.step - arrival.seen.sent_at)

    def _handle(self, message: Incoming) -> None:
        if message.action == Action.CONNECTED and self.connection is not None:
            after = serials.encode(self._epoch, self.cursor.position) if self.cursor is not None else None
            self.connection.send(self._crowd.writer.attach(self._crowd.plan.room_name(self.room), after=after))
        elif message.action == Action.ATTACHED:
            self._epoch = (message.channel_serial or "").partition("-")[0]
            self._enter(realtime.position_of(message.channel_serial))
        elif message.action in TURNS and self.connection is not None:
            self._turned_away(message)

    def _enter(self, position: int) -> None:
        if self.cursor is None:
            self.cursor = Cursor(position)
        else:
            if self.cursor.jump(position):
                self._crowd.skipped(self)
            self.live_from = self.live_from if self.is_attached else self._crowd.poller.step
        if not self.is_attached:
            self._crowd.attached(self)

    def _turned_away(self, message: Incoming) -> None:
        """The server says why this member cannot be here now. Without a cursor, some reasons hold for ever."""
        assert self.connection is not None
        error = message.error
        if error is not None and error.code in HOPELESS and self.cursor is None:
            self._crowd.hopeless = f"The server refuses members: {error.message} ({error.code})"
        reason = f"{error.code} {error.message}" if error is not None else f"action {message.action} without a reason"
        self.connection.end(reason)


class SlowMember(Member):
    """A member that reads a little at a time through a small buffer. Nobody's latency."""

    __slots__ = ("delivered", "is_slow")

    receive_buffer = SLOW_BUFFER_BYTES

    def __init__(self, crowd: Crowd, room: int) -> None:
        super().__init__(crowd, room)
        self.delivered = 0
        self.is_slow = True  # until the end of the run, to see whether it catches up

    def received_run(self, batch: Batch) -> bool:
        """See Listener."""
        return False

    def _note(self, arrival: Arrival) -> None:
        self.delivered += 1
