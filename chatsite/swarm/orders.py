"""What the conductor of a swarm and its processes say to each other through their pipes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from chatsite.swarm.latency import Latency


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a process stands."""

    ready: int = 0  # attached members, or connected publishers
    delivered: int = 0
    published: int = 0
    acknowledged: int = 0
    recent: Latency = field(default_factory=Latency)  # of what was delivered since the last one
    problems: Counter[str] = field(default_factory=Counter)
    hopeless: str | None = None


@dataclass(frozen=True, kw_only=True)
class Start:
    """Order to all: publishing begins at this monotonic time."""

    at: float


@dataclass(frozen=True, kw_only=True)
class Finish:
    """Order to members: wait until each room's log was received up to its head, at most so long, then report.

    `messages`: and until so many of the run were received, of which the publishers may have been told no serial.
    """

    heads: dict[int, int] = field(default_factory=dict)
    seconds: float = 0.0
    messages: int = 0
