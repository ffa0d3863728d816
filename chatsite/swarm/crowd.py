"""The members that one process holds: they attach, receive, check, and come back when they are cut off."""

from __future__ import annotations

import random
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from chatsite.swarm.connection import Connection, Poller
from chatsite.swarm.cursor import Cursor
from chatsite.swarm.findings import Place
from chatsite.swarm.frames import Frame
from chatsite.swarm.latency import STEPS_PER_SECOND, Latency
from chatsite.swarm.messages import Arrival, Batch, Incoming, Reader, Writer, position_of
from chatsite.swarm.plan import Plan
from rooms import serials
from rooms.wire import Action

OPENING_AT_ONCE = 64  # per process; more only makes the server's queue longer
RETURN_SECONDS = 1.0  # who was cut off comes back after a random part of this
HOPELESS = range(40000, 50000)  # errors that trying again does not mend


@dataclass(kw_only=True)
class Tally:
    """What the members of one process saw. Sent to the conductor."""

    attached: int = 0
    opened_at: float = 0.0  # when the first member connected, monotonic seconds
    attached_at: float = 0.0  # when the last one had attached
    delivered: int = 0
    expected: int = 0
    lost: int = 0
    doubled: int = 0
    late: int = 0
    discontinuities: int = 0
    reconnects: int = 0
    latency: Counter[int] = field(default_factory=Counter)
    places: set[Place] = field(default_factory=set)
    problems: Counter[str] = field(default_factory=Counter)


class Member:
    """One member of the room."""

    __slots__ = ("_crowd", "_epoch", "connection", "cursor", "is_attached")

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self._epoch = ""
        self.cursor: Cursor | None = None
        self.is_attached = False
        self.connection: Connection | None = None

    @property
    def position(self) -> int:
        """The highest serial seen; 0 before the first ATTACHED."""
        return self.cursor.position if self.cursor is not None else 0

    def open(self) -> None:
        """Connect."""
        self.connection = Connection(self._crowd.poller, self, self._crowd.path)

    def received_run(self, batch: Batch) -> bool:
        """See Listener."""
        cursor = self.cursor
        if cursor is None or batch.first != cursor.position + 1:
            return False
        cursor.position = batch.last
        crowd = self._crowd
        crowd.delivered += len(batch.items)
        now, counts = time.monotonic(), crowd.latency.counts
        for sent_at in batch.sent_at:
            counts[int((now - sent_at) * STEPS_PER_SECOND)] += 1
        return True

    def received(self, items: Sequence[Arrival | Incoming | Frame]) -> None:
        """See Listener."""
        now = time.monotonic()
        for item in items:
            if isinstance(item, Arrival):
                self._arrived(item, now)
            elif isinstance(item, Incoming):
                self._handle(item)

    def ended(self, reason: str) -> None:
        """See Listener."""
        self._crowd.cut_off(self, reason)

    def _arrived(self, arrival: Arrival, now: float) -> None:
        if self.cursor is not None:
            self.cursor.take(arrival.serial)
        self._crowd.delivered += 1
        if arrival.sent_at is not None:
            self._crowd.latency.add(now - arrival.sent_at)

    def _handle(self, message: Incoming) -> None:
        if message.action == Action.CONNECTED and self.connection is not None:
            after = serials.encode(self._epoch, self.cursor.position) if self.cursor is not None else None
            self.connection.send(self._crowd.writer.attach(self._crowd.plan.room, after=after))
        elif message.action == Action.ATTACHED:
            self._attached(message)
        elif message.error is not None and message.action in (Action.ERROR, Action.DISCONNECTED):
            self._crowd.refused(self, message.error.code, message.error.message)

    def _attached(self, message: Incoming) -> None:
        position = position_of(message.channel_serial)
        self._epoch = (message.channel_serial or "").partition("-")[0]
        if self.cursor is None:
            self.cursor = Cursor(position)
        elif self.cursor.jump(position):
            self._crowd.discontinuities += 1
        if not self.is_attached:
            self._crowd.attached(self)


class Crowd:
    """All members of one process."""

    def __init__(self, plan: Plan, members: int, *, source: str | None) -> None:
        self.plan = plan
        self.reader = Reader(plan.run, plan.format)
        self.writer = Writer(plan.run, plan.format)
        self.poller = Poller(plan.address, self.reader, source=source)
        self.path = plan.path()
        self.latency = Latency()
        self.delivered = 0
        self.discontinuities = 0
        self.reconnects = 0
        self.attached_count = 0
        self.opened_at = time.monotonic()
        self.attached_at = self.opened_at
        self.hopeless: str | None = None  # why no member will ever get in
        self._members = [Member(self) for _ in range(members)]
        self._waiting: deque[tuple[float, Member]] = deque((0.0, member) for member in self._members)
        self._opening: set[Member] = set()
        self._problems: Counter[str] = Counter()

    def step(self, seconds: float) -> None:
        """Open what may be opened and handle what is ready."""
        now = time.monotonic()
        while self._waiting and len(self._opening) < OPENING_AT_ONCE and self._waiting[0][0] <= now:
            _, member = self._waiting.popleft()
            self._opening.add(member)
            member.open()
        self.poller.poll(seconds)

    def has_reached(self, head: int) -> bool:
        """Tell whether every member that ever attached has seen the log up to its head."""
        return all(member.position >= head for member in self._members if member.cursor is not None)

    def tally(self, head: int) -> Tally:
        """Return what the members saw of a log that ends at head."""
        cursors = [member.cursor for member in self._members if member.cursor is not None]
        return Tally(
            attached=len(cursors),
            opened_at=self.opened_at,
            attached_at=self.attached_at,
            delivered=self.delivered,
            expected=sum(max(0, head - cursor.start) for cursor in cursors),
            lost=sum(cursor.lost(head) for cursor in cursors),
            doubled=sum(cursor.doubled for cursor in cursors),
            late=sum(cursor.late for cursor in cursors),
            discontinuities=self.discontinuities,
            reconnects=self.reconnects,
            latency=self.latency.counts,
            places=self.reader.places,
            problems=self._problems,
        )

    # --- What members tell --------------------------------------------------------------------------------

    def attached(self, member: Member) -> None:
        """A member is in the room."""
        member.is_attached = True
        self.attached_count += 1
        if not self.reconnects:
            self.attached_at = time.monotonic()
        self._opening.discard(member)

    def cut_off(self, member: Member, reason: str) -> None:
        """A member's connection ended: it comes back."""
        self._opening.discard(member)
        self._problems[reason] += 1
        if member.is_attached:
            member.is_attached = False
            self.attached_count -= 1
        if member.cursor is not None:
            self.reconnects += 1
        self._waiting.append((time.monotonic() + random.random() * RETURN_SECONDS, member))

    def refused(self, member: Member, code: int, message: str) -> None:
        """The server told a member why it may not be here."""
        self._problems[f"{code} {message}"] += 1
        if code in HOPELESS and member.cursor is None:
            self.hopeless = f"The server refuses members: {message} ({code})"
