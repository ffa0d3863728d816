"""When members received messages, by message and by second. Counted by batch, not by delivery. Pure.

Moments and durations are in steps of 0.1 ms.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from chatsite.swarm.results.latency import STEPS_PER_SECOND, Latency
from chatsite.swarm.wire.messages import Arrival, Batch

STEPS_PER_MILLISECOND = STEPS_PER_SECOND // 1000


class Timings:
    """The receipts of the members of one process while they were there."""

    def __init__(self) -> None:
        self.delivered = 0
        self.started = 0  # the series begins here
        self.by_room: defaultdict[int, Latency] = defaultdict(Latency)
        self.by_second: defaultdict[int, Latency] = defaultdict(Latency)  # of publishing
        self.fan_out: Counter[int] = Counter()  # receipt minus the server's timestamp: clocks of two machines
        self.catch_up = Latency()  # of messages missed while away, from publish to receipt
        self.fresh: list[Batch] = []  # batches with receipts to be counted
        self._recent = Latency()

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

    def add_missed(self, arrival: Arrival, at: int) -> None:
        """Count one delivery of a message that the member missed while it was away."""
        self.delivered += 1
        if arrival.seen is not None:
            self.catch_up.add_steps(at - arrival.seen.sent_at)

    def recent(self) -> Latency:
        """Return the latencies counted since the last call."""
        recent, self._recent = self._recent, Latency()
        return recent

    def _count(self, arrival: Arrival, receipts: dict[int, int]) -> None:
        members = sum(receipts.values())
        self.delivered += members
        seen = arrival.seen
        if seen is None:
            return
        second = (seen.sent_at - self.started) // STEPS_PER_SECOND
        histograms = (self.by_room[arrival.room], self.by_second[second], self._recent)
        for at, times in receipts.items():
            for histogram in histograms:
                histogram.add_steps(at - seen.sent_at, times)
            if seen.timestamp is not None:
                self.fan_out[at - seen.timestamp * STEPS_PER_MILLISECOND] += times
        seen.last_at = max(seen.last_at, *receipts)
        seen.members += members
