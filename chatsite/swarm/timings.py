"""When members received what, per message and over time. Counted by batch, not by delivery. Pure.

Moments and durations are in steps of 0.1 ms.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from chatsite.swarm.latency import STEPS_PER_SECOND, Latency
from chatsite.swarm.messages import Arrival, Batch, Seen

STEPS_PER_MILLISECOND = STEPS_PER_SECOND // 1000


class Timings:
    """What the members of one process received while they were there."""

    def __init__(self) -> None:
        self.delivered = 0
        self.started = 0  # the series begins here
        self.by_room: defaultdict[int, Latency] = defaultdict(Latency)
        self.by_second: defaultdict[int, Latency] = defaultdict(Latency)  # of publishing
        self.fan_out: Counter[int] = Counter()  # receipt minus the server's timestamp: clocks of two machines
        self.recent = Latency()  # since somebody last took it
        self.fresh: list[Batch] = []  # batches with receipts to be counted

    def count(self) -> None:
        """Count all receipts noted at batches since the last call."""
        for batch in self.fresh:
            receipts, batch.receipts = batch.receipts, {}
            for item in batch.items:
                if isinstance(item, Arrival):
                    self._count(item, receipts)
        self.fresh.clear()

    def add(self, arrival: Arrival, at: int) -> None:
        """Count one delivery that came alone."""
        self._count(arrival, {at: 1})

    def take_recent(self) -> Latency:
        """Return what came since the last call."""
        recent, self.recent = self.recent, Latency()
        return recent

    def _count(self, arrival: Arrival, receipts: dict[int, int]) -> None:
        self.delivered += sum(receipts.values())
        seen = arrival.seen
        if seen is None:
            return
        room = self.by_room[arrival.room]
        second = self.by_second[(seen.sent_at - self.started) // STEPS_PER_SECOND]
        for at, times in receipts.items():
            took = at - seen.sent_at
            room.add_steps(took, times)
            second.add_steps(took, times)
            self.recent.add_steps(took, times)
            if seen.timestamp is not None:
                self.fan_out[at - seen.timestamp * STEPS_PER_MILLISECOND] += times
        _note(seen, receipts)


def _note(seen: Seen, receipts: dict[int, int]) -> None:
    seen.last_at = max(seen.last_at, *receipts)
    seen.members += sum(receipts.values())
