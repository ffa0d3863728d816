"""The figures that the processes of a run send to the conductor when they are done, and how they add up. Pure.

Moments called steps are 0.1 ms of the monotonic clock; rooms are named by their number in the plan.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Iterable
from functools import reduce
from typing import Any, ClassVar, NamedTuple, Self

import msgspec
from msgspec import field

from chatsite.swarm.results.latency import Latency


class Token(NamedTuple):
    """A message as its publisher knows it: the publisher's number, and the message's number among its own."""

    publisher: int
    number: int


class Place(NamedTuple):
    """A position in a room's log and the message that members received there."""

    room: int
    serial: int
    token: Token


Sent = tuple[int, Token]  # the room to which a message was published, and the message


class Seen(msgspec.Struct):
    """A message of this run as the members of one process received it while they were there."""

    sent_at: int  # step, by the publisher
    timestamp: int | None  # by the server, milliseconds since the epoch
    last_at: int = 0  # step at which the last member received it
    members: int = 0

    def __iadd__(self, other: Seen) -> Self:
        self.last_at = max(self.last_at, other.last_at)
        self.members += other.members
        return self


class Sums(msgspec.Struct, kw_only=True, rename="camel"):
    """Figures that add up field by field: numbers and lists as usual, dictionaries by key."""

    merges: ClassVar[dict[str, Callable[[Any, Any], Any]]] = {}  # fields that are put together in another way

    def __iadd__(self, other: Self) -> Self:
        for name in self.__struct_fields__:
            merge = self.merges.get(name, _merge)
            setattr(self, name, merge(getattr(self, name), getattr(other, name)))
        return self

    @classmethod
    def total(cls, parts: Iterable[Self]) -> Self:
        """Return the sum. Its dictionaries share values with the parts, which are not to be used afterwards."""
        return reduce(operator.iadd, parts, cls())


class Faults(Sums, kw_only=True):
    """Broken promises of a server, named as in the report. All zero: none."""

    lost: int = 0  # deliveries that a member should have had
    duplicated: int = 0  # deliveries that a member had before, and messages published twice
    out_of_order: int = 0  # deliveries after a later one, and messages after a later one of their publisher
    misdirected: int = 0  # deliveries of another room's messages
    acknowledged_but_missing: int = 0  # messages
    rejected_but_published: int = 0  # messages
    divergent: int = 0  # serials under which members saw different messages

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(msgspec.structs.astuple(self))


class RoomTally(Sums, kw_only=True):
    """One room's members, without slow readers."""

    members: int = 0
    expected: int = 0  # deliveries
    faults: Faults = field(default_factory=Faults)
    latency: Latency = field(default_factory=Latency)


class SlowReaders(Sums, kw_only=True):
    """The members that read slowly on purpose."""

    members: int = 0
    delivered: int = 0
    caught_up: int = 0  # members that had everything, or were told what not, when they read at full speed in the end
    cut_off: int = 0  # times
    discontinuities: int = 0  # times that one was told that it misses something
    skipped: int = 0  # deliveries that they were told to miss
    lost: int = 0  # deliveries missing without a word, twice, or out of order


class Tally(Sums, kw_only=True):
    """What the members of one process saw."""

    merges = {"opened_at": min, "attached_at": max}

    attached: int = 0
    opened_at: float = float("inf")  # when the first member connected, monotonic seconds
    attached_at: float = 0.0  # when the last one had attached
    delivered: int = 0
    rooms: dict[int, RoomTally] = {}
    slow: SlowReaders = field(default_factory=SlowReaders)
    discontinuities: int = 0
    churned: int = 0  # members that left on purpose and came back
    reconnects: int = 0  # members that were cut off and came back
    cut_at: list[float] = []  # when members were cut off
    back_at: list[float] = []  # when they were attached again
    resume: Latency = field(default_factory=Latency)  # from opening the connection again to being attached
    catch_up: Latency = field(default_factory=Latency)  # of messages missed while away
    by_second: dict[int, Latency] = {}
    fan_out: Counter[int] = field(default_factory=Counter)  # steps from the server's timestamp to receipt
    seen: dict[Place, Seen] = {}
    problems: Counter[str] = field(default_factory=Counter)
    cpu_seconds: float = 0.0  # that the process used since publishing began


class Published(Sums, kw_only=True):
    """The answers to the messages that one process published. Counts are messages, latencies publishes."""

    merges = {"heads": operator.or_, "behind_seconds": max}

    published: int = 0
    acknowledged: list[Sent] = []
    refused: int = 0
    rejected: list[Sent] = []  # those refused for good: no other answer may follow
    reconnects: int = 0
    heads: Counter[int] = field(default_factory=Counter)  # the highest serial of each room that was acknowledged
    accept: Latency = field(default_factory=Latency)  # from publish to ACK
    accept_by_second: dict[int, Latency] = {}
    behind_seconds: float = 0.0  # how late a message was sent at worst, through this process's own fault
    problems: Counter[str] = field(default_factory=Counter)
    cpu_seconds: float = 0.0  # that the process used since publishing began


class Asked(msgspec.Struct, kw_only=True):
    """The calls of the swarm's own Lambda about one message."""

    webhook_id: str
    arrived: int  # step
    answered: int = 0  # step of the first answer with a verdict
    calls: int = 1
    ids: int = 1  # different webhook ids; more than one breaks the promise


class EndpointTally(msgspec.Struct, kw_only=True):
    """What the swarm's own Lambda was asked in a run."""

    calls: int = 0
    asked: dict[Token, Asked] = {}


class Kill(msgspec.Struct, frozen=True, kw_only=True):
    """A process that was killed, and the moment in monotonic seconds."""

    name: str
    at: float


class Usage(msgspec.Struct, kw_only=True):
    """What was measured outside of the wire. `server_*` is None if no process of the server was named or found."""

    started: float = 0.0  # when publishing began, monotonic seconds
    publish_seconds: float = 0.0
    swarm_processes: int = 0
    swarm_memory_bytes: int = 0
    clock_offset: float | None = None  # the server's epoch seconds minus monotonic ones
    server_processes: int = 0
    server_cpu_seconds: float | None = None
    server_memory_bytes: int | None = None  # by how much the members made it grow
    kill: Kill | None = None  # of a gateway
    worker_kill: Kill | None = None
    endpoint: EndpointTally | None = None
    counters: dict[str, int] | None = None  # by how much the gateways' own grew


def _merge(mine: Any, other: Any) -> Any:
    if not isinstance(mine, dict) or isinstance(mine, Counter):
        mine += other
        return mine
    for key, value in other.items():
        mine[key] = _merge(mine[key], value) if key in mine else value
    return mine
