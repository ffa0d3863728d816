"""The plan of a load run: its size, and how it is split among rooms and processes. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from urllib.parse import urlsplit

from rooms.protocol.wire import Format

MEMBERS_PER_PROCESS = 15_000  # a process may hold 20,000 descriptors on many systems
PUBLISHES_PER_PROCESS = 4_000  # a second; what one process sends beside others without falling behind
SOURCES_PER_PROCESS = 4  # each source address has some 28,000 ports, and a closed connection keeps its for a minute
LOOPBACK = ("127.0.0.1", "localhost")


class Review(StrEnum):
    """How the server asks the swarm's own Lambda about each message before it is published."""

    SINGLE = "single"
    BATCHED = "batched"


class Protocol(StrEnum):
    """The protocol that the server speaks."""

    CHAT = "chat"  # this project's, the Ably-compatible realtime protocol
    NCHAN = "nchan"  # nginx's module, as a peer to compare with: plain frames, and POSTs


class SwarmFailed(Exception):
    """The run cannot be carried out; the text says why, and what to do."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One run. Sizes are bytes of message data, rates messages a second of all publishers together."""

    url: str
    key: str
    room: str
    run: str  # tells this run's messages from other ones in the room
    members: int
    publishers: int
    rate: float
    seconds: float
    size: int
    processes: int
    format: Format
    connect_seconds: float  # members that are not attached by then stay out
    settle_seconds: float  # how long the last messages may take to arrive
    rooms: int = 1
    batch: int = 1  # messages in each publish
    churn: float = 0.0  # percent of the members that leave each second, and come back
    slow_readers: int = 0  # of the members
    slow_rate: int = 1024  # bytes a second that a slow reader reads
    kill_after: float | None = None  # seconds of publishing before one gateway is killed
    protocol: Protocol = Protocol.CHAT
    nap_ms: float = 0.0  # that a process of members rests after each look at its sockets
    members_per_process: int = MEMBERS_PER_PROCESS
    review: Review | None = None
    review_port: int = 0  # at which the swarm's Lambda listens
    review_ms: float = 0.0  # that it takes for each call
    review_down: tuple[float, float] | None = None  # seconds of publishing from which and until which it is down
    kill_worker_after: float | None = None  # seconds of publishing before one worker is killed

    @property
    def publishes(self) -> int:
        """How often something is published."""
        return max(1, round(self.rate * self.seconds / self.batch)) if self.publishers else 0

    @property
    def total(self) -> int:
        """How many messages are published."""
        return self.publishes * self.batch

    @property
    def is_tls(self) -> bool:
        """Whether the server is reached by TLS."""
        return urlsplit(self.url).scheme in ("https", "wss")

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the server."""
        parts = urlsplit(self.url)
        return parts.hostname or "127.0.0.1", parts.port or (443 if self.is_tls else 80)

    # --- Rooms --------------------------------------------------------------------------------------------

    def room_name(self, room: int) -> str:
        """Return the name of a room, by its number from 0."""
        return self.room if self.rooms == 1 else f"{self.room}:{room + 1}"

    def room_of(self, member: int) -> int:
        """Return the room that a member is in."""
        return member % self.rooms

    def rooms_of(self, publisher: int) -> range:
        """Return the rooms that a publisher publishes to, in turn. Each room has a publisher."""
        if self.publishers >= self.rooms:
            return range(publisher % self.rooms, publisher % self.rooms + 1)
        return range(publisher, self.rooms, self.publishers)

    def is_slow(self, member: int) -> bool:
        """Return whether a member is one of the slow readers, which are spread evenly."""
        return member * self.slow_readers // self.members != (member + 1) * self.slow_readers // self.members

    # --- Processes ----------------------------------------------------------------------------------------

    def member_shares(self) -> list[range]:
        """Return the members that each process holds, by their numbers among all."""
        if not self.members:
            return []
        count = min(max(self.processes, -(-self.members // self.members_per_process)), self.members)
        edges = [self.members * place // count for place in range(count + 1)]
        return [range(first, end) for first, end in pairwise(edges)]

    def publisher_shares(self) -> list[range]:
        """Return the publishers that each publishing process holds, by their numbers among all."""
        if not self.publishers:
            return []
        needed = -(-round(self.rate / self.batch) // PUBLISHES_PER_PROCESS)
        # Without members there is nothing else to do for the processes that were asked for.
        count = min(max(1, needed if self.members else self.processes), self.processes, self.publishers)
        return [range(place, self.publishers, count) for place in range(count)]

    def sources(self, place: int) -> list[str]:
        """Return the addresses that a process connects from, none for the system's choice."""
        if self.address[0] not in LOOPBACK:
            return []
        return [f"127.0.{1 + place % 250}.{2 + number}" for number in range(SOURCES_PER_PROCESS)]
