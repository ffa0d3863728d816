"""What the members of one process saw, as it is sent to the conductor."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from chatsite.swarm.findings import Place
from chatsite.swarm.latency import Latency
from chatsite.swarm.messages import Seen


@dataclass(kw_only=True)
class RoomTally:
    """One room's members in one process, without slow readers. Counts are deliveries."""

    members: int = 0
    expected: int = 0
    lost: int = 0
    doubled: int = 0
    late: int = 0
    strayed: int = 0  # of other rooms
    latency: Latency = field(default_factory=Latency)

    def add(self, other: RoomTally) -> None:
        """Add what another process saw of the same room."""
        for name in ("members", "expected", "lost", "doubled", "late", "strayed"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.latency.counts.update(other.latency.counts)


@dataclass(kw_only=True)
class SlowTally:
    """Members that read slowly on purpose."""

    members: int = 0
    delivered: int = 0
    caught_up: int = 0  # members that had the whole log in the end
    cut_off: int = 0  # times
    discontinuities: int = 0  # times that one was told that it misses something
    skipped: int = 0  # deliveries that they were told to miss
    lost: int = 0  # deliveries that they miss and were not told of

    def add(self, other: SlowTally) -> None:
        """Add what another process saw."""
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(kw_only=True)
class Tally:
    """What the members of one process saw."""

    attached: int = 0
    opened_at: float = 0.0  # when the first member connected, monotonic seconds
    attached_at: float = 0.0  # when the last one had attached
    delivered: int = 0
    rooms: dict[int, RoomTally] = field(default_factory=dict)
    slow: SlowTally = field(default_factory=SlowTally)
    discontinuities: int = 0
    churned: int = 0  # members that left on purpose and came back
    reconnects: int = 0  # members that were cut off and came back
    cut_at: list[float] = field(default_factory=list)  # when members were cut off
    back_at: list[float] = field(default_factory=list)  # when they were attached again
    resume: Latency = field(default_factory=Latency)  # from opening the connection again to being attached
    catch_up: Latency = field(default_factory=Latency)  # of what was missed while away
    by_second: dict[int, Latency] = field(default_factory=dict)
    fan_out: Counter[int] = field(default_factory=Counter)
    seen: dict[Place, Seen] = field(default_factory=dict)
    problems: Counter[str] = field(default_factory=Counter)
    cpu_seconds: float = 0.0  # that the process used since publishing began
