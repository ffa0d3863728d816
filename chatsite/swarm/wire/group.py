"""The connections that one process holds, of members or of publishers, and the parts that all of them share."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from typing import Generic, TypeVar

from chatsite.swarm.orders import Progress
from chatsite.swarm.plan import Plan, Protocol
from chatsite.swarm.wire import nchan, realtime
from chatsite.swarm.wire.messages import Reader
from chatsite.swarm.wire.stream import Owner, Poller

PROBLEMS_SHOWN = 3

One = TypeVar("One", bound=Owner)


class Group(Generic[One]):
    """Members or publishers. `step` connects and handles what arrives; those that are cut off connect again later.

    `place` is the number of the process: each connects from addresses of its own.
    """

    def __init__(self, plan: Plan, place: int, *, nap: float = 0.0) -> None:
        self.plan = plan
        self.reader = Reader((nchan if plan.protocol is Protocol.NCHAN else realtime).Decoder(plan), rooms=plan.rooms)
        self.writer = realtime.Writer(plan.run, plan.format)
        self.poller = Poller(plan, plan.sources(place), nap=nap)
        self.problems: Counter[str] = Counter()
        self._waiting: list[tuple[float, int, One]] = []  # a heap of moments at which to connect
        self._order = itertools.count()  # among equal moments

    def step(self, seconds: float) -> None:
        """Do what is due, and handle what arrives; wait for it at most this long."""
        raise NotImplementedError

    def progress(self) -> Progress:
        """Return where the group stands."""
        raise NotImplementedError

    def connect_at(self, moment: float, one: One) -> None:
        """Let a member or publisher connect at this monotonic time."""
        heapq.heappush(self._waiting, (moment, next(self._order), one))

    def next_due(self, now: float) -> One | None:
        """Return one whose moment to connect has come, each once; None if there is none."""
        return heapq.heappop(self._waiting)[2] if self._waiting and self._waiting[0][0] <= now else None

    def worst_problems(self) -> Counter[str]:
        """Return the most frequent problems that were met."""
        return Counter(dict(self.problems.most_common(PROBLEMS_SHOWN)))
