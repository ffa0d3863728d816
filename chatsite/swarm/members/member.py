"""One member of a room: it attaches, receives, checks what it receives, and comes back where it was."""

from __future__ import annotations

import time
from collections.abc import Sequence

from chatsite.swarm.members.cursor import Cursor
from chatsite.swarm.members.timings import Timings
from chatsite.swarm.plan import Plan, Protocol
from chatsite.swarm.wire import nchan, realtime
from chatsite.swarm.wire.group import Group
from chatsite.swarm.wire.messages import Arrival, Batch, Incoming, Item
from chatsite.swarm.wire.websocket import Listener, WebSocket
from rooms.protocol import serials
from rooms.protocol.wire import Action

HOPELESS = range(40000, 50000)  # errors that trying again does not mend
SLOW_BUFFER_BYTES = 4096
REFUSALS = (Action.ERROR, Action.DETACHED, Action.DISCONNECTED)


class Host(Group["Member"]):
    """The members of one process, as one of them sees it: shared parts, and what it reports."""

    def __init__(self, plan: Plan, place: int) -> None:
        super().__init__(plan, place, nap=plan.nap_ms / 1000)
        self.path = realtime.path_of(plan) if plan.protocol is Protocol.CHAT else None  # None: one for each room
        self.timings = Timings()
        self.hopeless: str | None = None  # why no member will ever get in

    def attached(self, member: Member) -> None:
        """A member is in the room."""
        raise NotImplementedError

    def cut_off(self, member: Member, reason: str, retry_after: float | None) -> None:
        """A member's connection ended."""
        raise NotImplementedError

    def skipped(self, member: Member) -> None:
        """The server admits that a member misses something."""
        raise NotImplementedError


class Member(Listener):
    """One member. `live_from` is a step while it catches up with older messages: that is not live latency."""

    __slots__ = (
        "_epoch",
        "_host",
        "attempts",
        "cursor",
        "is_attached",
        "live_from",
        "misdirected",
        "opened_at",
        "room",
        "socket",
    )

    receive_buffer: int | None = None

    def __init__(self, host: Host, room: int) -> None:
        self._host = host
        self._epoch = ""
        self.room = room
        self.cursor: Cursor | None = None
        self.socket: WebSocket | None = None
        self.is_attached = False
        self.live_from = 0
        self.opened_at = 0.0
        self.attempts = 0  # since it was last attached
        self.misdirected = 0  # messages of other rooms

    @property
    def position(self) -> int:
        """The highest serial seen; 0 before the first ATTACHED."""
        return self.cursor.position if self.cursor is not None else 0

    def open(self) -> None:
        host = self._host
        self.opened_at = time.monotonic()
        path = host.path or nchan.path_of(host.plan, self.room)
        self.socket = WebSocket(host.poller, host.reader, self, path, receive_buffer=self.receive_buffer)

    def opened(self) -> None:
        """Enter the room of a peer without a protocol of its own, whose members are there from here on."""
        if self._host.plan.protocol is Protocol.NCHAN:
            self._enter(self.position)

    def received_run(self, batch: Batch) -> bool:
        cursor = self.cursor
        if cursor is None or batch.first != cursor.position + 1 or batch.room != self.room or self.live_from:
            return False
        cursor.position = batch.last
        step, receipts = self._host.poller.step, batch.receipts
        if step in receipts:
            receipts[step] += 1
        else:
            if not receipts:
                self._host.timings.fresh.append(batch)
            receipts[step] = 1
        return True

    def received(self, items: Sequence[Item]) -> None:
        for item in items:
            if isinstance(item, Arrival):
                self._arrived(item)
            elif isinstance(item, Incoming):
                self._handle(item)

    def ended(self, reason: str, retry_after: float | None) -> None:
        self._host.cut_off(self, reason, retry_after)

    def _arrived(self, arrival: Arrival) -> None:
        if self.cursor is None or arrival.room != self.room:
            self.misdirected += 1
            return
        self.cursor.add(arrival.serial)
        if self.live_from and arrival.seen is not None and arrival.seen.sent_at >= self.live_from:
            self.live_from = 0
        self._count(arrival)

    def _count(self, arrival: Arrival) -> None:
        timings, step = self._host.timings, self._host.poller.step
        if self.live_from:
            timings.add_missed(arrival, step)
        else:
            timings.add(arrival, step)

    def _handle(self, message: Incoming) -> None:
        if message.action == Action.CONNECTED and self.socket is not None:
            after = serials.encode(self._epoch, self.cursor.position) if self.cursor is not None else None
            self.socket.send(self._host.writer.attach(self._host.plan.room_name(self.room), after=after))
        elif message.action == Action.ATTACHED:
            self._epoch = (message.channel_serial or "").partition("-")[0]
            self._enter(realtime.position_of(message.channel_serial))
        elif message.action in REFUSALS and self.socket is not None:
            self._refused(message, self.socket)

    def _enter(self, position: int) -> None:
        if self.cursor is None:
            self.cursor = Cursor(position)
        else:
            if self.cursor.jump(position):
                self._host.skipped(self)
            self.live_from = self.live_from if self.is_attached else self._host.poller.step
        if not self.is_attached:
            self._host.attached(self)

    def _refused(self, message: Incoming, socket: WebSocket) -> None:
        """Leave, for the server says why this member cannot be here. Without a cursor, some reasons hold for ever."""
        error = message.error
        if error is not None and error.code in HOPELESS and self.cursor is None:
            self._host.hopeless = f"The server refuses members: {error.message} ({error.code})"
        socket.end(str(error) if error is not None else f"action {message.action} without a reason")


class SlowMember(Member):
    """A member that reads a little at a time through a small buffer. It counts in nobody's latency."""

    __slots__ = ("delivered", "is_slow")

    receive_buffer = SLOW_BUFFER_BYTES

    def __init__(self, host: Host, room: int) -> None:
        super().__init__(host, room)
        self.delivered = 0
        self.is_slow = True  # until the end of the run, to see whether it catches up

    def received_run(self, batch: Batch) -> bool:
        return False

    def _count(self, arrival: Arrival) -> None:
        self.delivered += 1
