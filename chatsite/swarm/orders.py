"""The messages between the conductor of a swarm and its processes, through their pipes."""

from __future__ import annotations

from collections import Counter

from msgspec import Struct, field

from chatsite.swarm.results.latency import Latency
from chatsite.swarm.results.tally import Sums


class Progress(Sums, kw_only=True):
    """Where a process stands."""

    merges = {"hopeless": lambda mine, other: mine or other}

    ready: int = 0  # attached members, or connected publishers
    delivered: int = 0
    published: int = 0
    acknowledged: int = 0
    recent: Latency = field(default_factory=Latency)  # of deliveries since the report before
    problems: Counter[str] = field(default_factory=Counter)
    hopeless: str | None = None  # why no member will ever get in


class Start(Struct, frozen=True):
    """Order to all: publishing begins at this monotonic time."""

    at: float


class Finish(Struct, frozen=True, kw_only=True):
    """Order to members: wait until each room's log was received up to its head, at most so long, then report.

    `messages`: and until so many of the run were received, of which the publishers may have been told no serial.
    """

    heads: dict[int, int] = {}
    seconds: float = 0.0
    messages: int = 0
