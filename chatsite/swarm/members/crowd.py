"""The members that one process holds: when they connect and leave, which ones read slowly, and their figures."""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter, deque
from collections.abc import Iterable

from chatsite.swarm.members.member import Host, Member, SlowMember
from chatsite.swarm.orders import Finish, Progress
from chatsite.swarm.plan import Plan
from chatsite.swarm.results.latency import STEPS_PER_SECOND
from chatsite.swarm.results.tally import RoomTally, SlowReaders, Tally

WAIT_SECONDS = 0.02  # at most; something may have to be done meanwhile
OPENING_AT_ONCE = 128  # per process; more only makes the server's queue longer
OPENING_SECONDS = 30.0  # a member that is not attached by then tries again
RETURN_SECONDS = 1.0  # a member that was cut off comes back after a random part of this
RETURN_MAX_SECONDS = 8.0  # and after twice as long each time that it fails
SLOW_READS_PER_SECOND = 4
CHURN_TRIES = 20  # draws of a member that is there


class Crowd(Host):
    """All members of one process. `place` is its number among the processes of members."""

    def __init__(self, plan: Plan, place: int, members: range) -> None:
        super().__init__(plan, place)
        self._slow = [SlowMember(self, plan.room_of(number)) for number in members if plan.is_slow(number)]
        self._quick = [Member(self, plan.room_of(number)) for number in members if not plan.is_slow(number)]
        for member in self._members():
            self.connect_at(0.0, member)
        now = time.monotonic()
        self._tally = Tally(opened_at=now, attached_at=now)
        self._attached = 0
        self._opening: dict[Member, float] = {}
        self._reading: deque[tuple[float, SlowMember]] = deque()
        self._churn: tuple[float, float] | None = None  # from when until when members leave
        self._away: dict[Member, bool] = {}  # members that were in the room, and whether they left on purpose

    def step(self, seconds: float) -> None:
        now = time.monotonic()
        while len(self._opening) < OPENING_AT_ONCE and (member := self.next_due(now)) is not None:
            self._opening[member] = now
            member.connect()
        while self._opening and (oldest := next(iter(self._opening.items())))[1] < now - OPENING_SECONDS:
            assert oldest[0].socket is not None
            oldest[0].socket.end(f"not attached within {OPENING_SECONDS:g} s")
        if self._churn is not None:
            self._let_leave(now, *self._churn)
        while self._reading and self._reading[0][0] <= now:
            self._read_slowly(self._reading.popleft()[1], now)
        self.poller.poll(min(seconds, WAIT_SECONDS))

    def progress(self) -> Progress:
        self.timings.count()
        return Progress(
            ready=self._attached,
            delivered=self.timings.delivered,
            recent=self.timings.recent(),
            problems=self.worst_problems(),
            hopeless=self.hopeless,
        )

    def start(self, at: float) -> None:
        """Begin the series at this monotonic time, when publishing begins, and let members leave from then on."""
        self.timings.started = int(at * STEPS_PER_SECOND)
        if self.plan.churn:
            self._churn = (at, at + self.plan.seconds)

    def hurry(self) -> None:
        """Let slow readers read as fast as they can, to see whether they catch up."""
        self._churn = None
        self._reading.clear()
        for member in self._slow:
            member.is_slow = False
            if member.is_attached and member.socket is not None:
                member.socket.quicken()

    def has_reached(self, finish: Finish) -> bool:
        """Return whether every member that ever attached has seen its room's log up to its head."""
        are_there = all(
            member.position >= finish.heads.get(member.room, 0)
            for member in self._members()
            if member.cursor is not None
        )
        return are_there and len(self.reader.seen) >= finish.messages

    def tally(self, finish: Finish) -> Tally:
        """Return the members' figures, for logs that end where the order says, or later."""
        self.timings.count()
        heads = Counter(finish.heads)
        if finish.messages:  # some of them were published after the last serial that a publisher was told
            for member in self._quick:
                heads[member.room] = max(heads[member.room], member.position)
        tally, timings = self._tally, self.timings
        tally.attached = sum(member.cursor is not None for member in self._members())
        tally.delivered, tally.catch_up = timings.delivered, timings.catch_up
        tally.by_second, tally.fan_out = dict(timings.by_second), timings.fan_out
        tally.rooms = self._tally_rooms(heads)
        self._tally_slow(heads, tally.slow)
        tally.seen, tally.problems = self.reader.seen, self.problems
        return tally

    # --- Reports of members -------------------------------------------------------------------------------

    def attached(self, member: Member) -> None:
        now, tally = time.monotonic(), self._tally
        member.is_attached, member.attempts = True, 0
        self._attached += 1
        self._opening.pop(member, None)
        on_purpose = self._away.pop(member, None)
        if on_purpose is None:
            tally.attached_at = now
        else:
            tally.resume.add(now - member.opened_at)
        if on_purpose is False:
            tally.reconnects += 1
            tally.back_at.append(now)
        if isinstance(member, SlowMember) and member.is_slow and member.socket is not None:
            self.poller.ignore(member.socket)
            self._reading.append((now, member))

    def cut_off(self, member: Member, reason: str, retry_after: float | None) -> None:
        """Let a member whose connection ended come back, when the server said or after a random pause."""
        now, tally = time.monotonic(), self._tally
        self._opening.pop(member, None)
        self.problems[reason] += 1
        if member.is_attached:
            tally.slow.cut_off += isinstance(member, SlowMember)
            tally.cut_at.append(now)
            self._leave(member, on_purpose=False)
        pause = min(RETURN_SECONDS * 2**member.attempts, RETURN_MAX_SECONDS)
        member.attempts = min(member.attempts + 1, 10)
        self.connect_at(now + (retry_after or 0.0) + random.random() * pause, member)

    def skipped(self, member: Member) -> None:
        if isinstance(member, SlowMember):
            self._tally.slow.discontinuities += 1
        else:
            self._tally.discontinuities += 1

    # --- Coming and going ---------------------------------------------------------------------------------

    def _members(self) -> Iterable[Member]:
        return itertools.chain(self._quick, self._slow)

    def _leave(self, member: Member, *, on_purpose: bool) -> None:
        member.is_attached = False
        self._attached -= 1
        self._away[member] = on_purpose

    def _let_leave(self, now: float, start: float, end: float) -> None:
        """Let as many members leave as should have by now; they come back a moment later, where they were."""
        due = (min(now, end) - start) * self.plan.churn / 100 * len(self._quick)
        while self._tally.churned < due and self._quick:
            present = (member for member in random.choices(self._quick, k=CHURN_TRIES) if member.is_attached)
            member = next(present, None)
            if member is None or member.socket is None:
                return
            self._tally.churned += 1
            member.socket.close()
            self._leave(member, on_purpose=True)
            self.connect_at(now + random.random() * RETURN_SECONDS, member)

    def _read_slowly(self, member: SlowMember, now: float) -> None:
        if member.is_attached and member.is_slow and member.socket is not None:
            member.socket.read(max(1, self.plan.slow_rate // SLOW_READS_PER_SECOND))
        if member.is_attached and member.is_slow:
            self._reading.append((now + 1 / SLOW_READS_PER_SECOND, member))

    # --- Figures ------------------------------------------------------------------------------------------

    def _tally_rooms(self, heads: Counter[int]) -> dict[int, RoomTally]:
        rooms = {room: RoomTally(latency=latency) for room, latency in self.timings.by_room.items()}
        for member in self._quick:
            room, head = rooms.setdefault(member.room, RoomTally()), heads[member.room]
            room.faults.misdirected += member.misdirected
            if (cursor := member.cursor) is not None:
                room.members += 1
                room.expected += max(0, head - cursor.start)
                room.faults.lost += cursor.lost(head)
                room.faults.duplicated += cursor.duplicated
                room.faults.out_of_order += cursor.out_of_order
        return rooms

    def _tally_slow(self, heads: Counter[int], slow: SlowReaders) -> None:
        slow.members = len(self._slow)
        for member in self._slow:
            slow.delivered += member.delivered
            if (cursor := member.cursor) is not None:
                head = heads[member.room]
                slow.caught_up += cursor.position >= head
                slow.skipped += cursor.skipped
                slow.lost += max(0, cursor.lost(head) - cursor.skipped) + cursor.duplicated + cursor.out_of_order
