"""The members that one process holds: who connects when, who leaves, who reads slowly, and what all of them saw."""

from __future__ import annotations

import heapq
import itertools
import random
import time
from collections import Counter, deque

from chatsite.swarm import nchan, realtime
from chatsite.swarm.latency import STEPS_PER_SECOND, Latency
from chatsite.swarm.member import Member, SlowMember
from chatsite.swarm.messages import Reader
from chatsite.swarm.orders import Finish
from chatsite.swarm.plan import Plan, Protocol, Share
from chatsite.swarm.stream import Poller
from chatsite.swarm.tally import RoomTally, SlowTally, Tally
from chatsite.swarm.timings import Timings
from chatsite.swarm.tls import context_for

WAIT_SECONDS = 0.02  # at most; something may have to be done meanwhile
OPENING_AT_ONCE = 128  # per process; more only makes the server's queue longer
OPENING_SECONDS = 30.0  # a member that is not attached by then tries again
RETURN_SECONDS = 1.0  # who was cut off comes back after a random part of this
RETURN_MAX_SECONDS = 8.0  # and after twice as long each time that it fails
SLOW_READS_PER_SECOND = 4
CHURN_TRIES = 20  # draws of a member that is there


class Crowd:
    """All members of one process."""

    def __init__(self, plan: Plan, share: Share) -> None:
        self.plan = plan
        decode = nchan.Decoder(plan) if plan.protocol is Protocol.NCHAN else realtime.Decoder(plan)
        self.reader = Reader(decode, rooms=plan.rooms)
        self.writer = realtime.Writer(plan.run, plan.format)
        self.poller = Poller(plan.address, sources=share.sources, tls=context_for(plan), nap=plan.nap_ms / 1000)
        self.path = realtime.path_of(plan) if plan.protocol is Protocol.CHAT else None  # None: one for each room
        self.timings = Timings()
        self.catch_up = Latency()
        self.resume = Latency()
        self.attached_count = 0
        self.hopeless: str | None = None  # why no member will ever get in
        self.problems: Counter[str] = Counter()
        self._opened_at = self._attached_at = time.monotonic()
        self._slow = {
            number: SlowMember(self, plan.room_of(number)) for number in share.members if plan.is_slow(number)
        }
        self._quick = [Member(self, plan.room_of(number)) for number in share.members if number not in self._slow]
        self._order = itertools.count()  # of members that wait for the same moment
        self._waiting = [(0.0, next(self._order), member) for member in (*self._quick, *self._slow.values())]
        self._opening: dict[Member, float] = {}
        self._reading: deque[tuple[float, SlowMember]] = deque()
        self._slow_cuts = 0
        self._slow_discontinuities = 0
        self._discontinuities = 0
        self._reconnects = 0
        self._churned = 0
        self._churn: tuple[float, float] | None = None  # from when until when members leave
        self._away: dict[Member, bool] = {}  # members that were in the room, and whether they left on purpose
        self._cut_at: list[float] = []
        self._back_at: list[float] = []

    def step(self, seconds: float) -> None:
        """Open what may be opened, let leave who leaves, and handle what is ready."""
        now = time.monotonic()
        while self._waiting and len(self._opening) < OPENING_AT_ONCE and self._waiting[0][0] <= now:
            self._open(heapq.heappop(self._waiting)[2], now)
        while self._opening and (oldest := next(iter(self._opening.items())))[1] < now - OPENING_SECONDS:
            assert oldest[0].connection is not None
            oldest[0].connection.end(f"not attached within {OPENING_SECONDS:g} s")
        if self._churn is not None:
            self._let_leave(now)
        while self._reading and self._reading[0][0] <= now:
            self._read_slowly(self._reading.popleft()[1], now)
        self.poller.poll(min(seconds, WAIT_SECONDS))

    def start(self, at: float) -> None:
        """Publishing begins at this monotonic time: count from there, and let members leave."""
        self.timings.started = int(at * STEPS_PER_SECOND)
        if self.plan.churn:
            self._churn = (at, at + self.plan.seconds)

    def hurry(self) -> None:
        """Let slow readers read as fast as they can, to see whether they catch up."""
        self._churn = None
        self._reading.clear()
        for member in self._slow.values():
            member.is_slow = False
            if member.is_attached and member.connection is not None:
                member.connection.quicken()

    def has_reached(self, finish: Finish) -> bool:
        """Tell whether every member that ever attached has seen its room's log up to its head."""
        members = itertools.chain(self._quick, self._slow.values())
        is_there = all(
            member.position >= finish.heads.get(member.room, 0) for member in members if member.cursor is not None
        )
        return is_there and len(self.reader.seen) >= finish.messages

    def tally(self, finish: Finish) -> Tally:
        """Return what the members saw of logs that end where the order says, or later."""
        self.timings.count()
        heads = dict(finish.heads)
        if finish.messages:  # some of them were published after the last serial that a publisher was told
            for member in self._quick:
                heads[member.room] = max(heads.get(member.room, 0), member.position)
        return Tally(
            attached=sum(member.cursor is not None for member in (*self._quick, *self._slow.values())),
            opened_at=self._opened_at,
            attached_at=self._attached_at,
            delivered=self.timings.delivered,
            rooms=self._tally_rooms(heads),
            slow=self._tally_slow(heads),
            discontinuities=self._discontinuities,
            churned=self._churned,
            reconnects=self._reconnects,
            cut_at=self._cut_at,
            back_at=self._back_at,
            resume=self.resume,
            catch_up=self.catch_up,
            by_second=dict(self.timings.by_second),
            fan_out=self.timings.fan_out,
            seen=self.reader.seen,
            problems=self.problems,
        )

    # --- What members tell --------------------------------------------------------------------------------

    def attached(self, member: Member) -> None:
        """A member is in the room."""
        now = time.monotonic()
        member.is_attached, member.attempts = True, 0
        self.attached_count += 1
        self._opening.pop(member, None)
        on_purpose = self._away.pop(member, None)
        if on_purpose is None:
            self._attached_at = now
        else:
            self.resume.add(now - member.opened_at)
        if on_purpose is False:
            self._reconnects += 1
            self._back_at.append(now)
        if isinstance(member, SlowMember) and member.is_slow and member.connection is not None:
            self.poller.ignore(member.connection)
            self._reading.append((now, member))

    def cut_off(self, member: Member, reason: str, retry_after: float | None) -> None:
        """A member's connection ended: it comes back, when the server said or after a random pause."""
        now = time.monotonic()
        self._opening.pop(member, None)
        self.problems[reason] += 1
        if member.is_attached and isinstance(member, SlowMember):
            self._slow_cuts += 1
        if member.is_attached:
            self._cut_at.append(now)
            self._leave(member, on_purpose=False)
        pause = min(RETURN_SECONDS * 2**member.attempts, RETURN_MAX_SECONDS)
        member.attempts = min(member.attempts + 1, 10)
        self._return(member, now + (retry_after or 0.0) + random.random() * pause)

    def skipped(self, member: Member) -> None:
        """A member was told that it misses something."""
        if isinstance(member, SlowMember):
            self._slow_discontinuities += 1
        else:
            self._discontinuities += 1

    # --- Coming and going ---------------------------------------------------------------------------------

    def _open(self, member: Member, now: float) -> None:
        self._opening[member] = now
        try:
            member.open()
        except OSError as error:
            self.cut_off(member, error.strerror or str(error), None)

    def _leave(self, member: Member, *, on_purpose: bool) -> None:
        member.is_attached = False
        self.attached_count -= 1
        self._away[member] = on_purpose

    def _return(self, member: Member, moment: float) -> None:
        heapq.heappush(self._waiting, (moment, next(self._order), member))

    def _let_leave(self, now: float) -> None:
        """Let as many members leave as should have by now; they come back a moment later, where they were."""
        assert self._churn is not None
        start, end = self._churn
        due = (min(now, end) - start) * self.plan.churn / 100 * len(self._quick)
        while self._churned < due and self._quick:
            present = (member for member in random.choices(self._quick, k=CHURN_TRIES) if member.is_attached)
            member = next(present, None)
            if member is None or member.connection is None:
                return
            self._churned += 1
            member.connection.close()
            self._leave(member, on_purpose=True)
            self._return(member, now + random.random() * RETURN_SECONDS)

    def _read_slowly(self, member: SlowMember, now: float) -> None:
        if member.is_attached and member.connection is not None and member.is_slow:
            member.connection.read(max(1, self.plan.slow_rate // SLOW_READS_PER_SECOND))
        if member.is_attached and member.is_slow:
            self._reading.append((now + 1 / SLOW_READS_PER_SECOND, member))

    # --- What they saw ------------------------------------------------------------------------------------

    def _tally_rooms(self, heads: dict[int, int]) -> dict[int, RoomTally]:
        rooms = {room: RoomTally(latency=latency) for room, latency in self.timings.by_room.items()}
        for member in self._quick:
            room = rooms.setdefault(member.room, RoomTally())
            room.strayed += member.strayed
            if (cursor := member.cursor) is not None:
                head = heads.get(member.room, 0)
                room.members += 1
                room.expected += max(0, head - cursor.start)
                room.lost += cursor.lost(head)
                room.doubled += cursor.doubled
                room.late += cursor.late
        return rooms

    def _tally_slow(self, heads: dict[int, int]) -> SlowTally:
        tally = SlowTally(members=len(self._slow), cut_off=self._slow_cuts, discontinuities=self._slow_discontinuities)
        for member in self._slow.values():
            tally.delivered += member.delivered
            if (cursor := member.cursor) is not None:
                head = heads.get(member.room, 0)
                tally.caught_up += cursor.position >= head
                tally.skipped += cursor.skipped
                tally.lost += max(0, cursor.lost(head) - cursor.skipped) + cursor.doubled + cursor.late
        return tally
