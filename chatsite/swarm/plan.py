"""The plan of a load run: its size, and how it is split among rooms and processes. Pure."""

from __future__ import annotations

import os
from argparse import ArgumentTypeError
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import Any
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


MIDDLE = -1.0  # of the time of publishing
KILL = "kill -9 one {} of the instance at DATA, S seconds into publishing (default: in the middle)"
REVIEW = "let a Lambda of the swarm's own check each message before it is published (docs/load.md)"
NAP = "rest after each look at the sockets: less CPU where swarm and server share a machine, more latency"
PROTOCOL = "nchan: drive nginx with nchan instead, to compare (docs/load.md)"


class SwarmFailed(Exception):
    """The run cannot be carried out; the text says why, and what to do."""


def number(kind: type[int] | type[float], least: float) -> Callable[[str], float]:
    """Return a parser of numbers that are not less than `least`."""

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            raise ArgumentTypeError(f"must be a number, not {text!r}") from None
        if not least <= value < float("inf"):
            raise ArgumentTypeError(f"must be {'more than 0' if least else 'at least 0'}, not {text}")
        return value

    return parse


def span(text: str) -> tuple[float, float]:
    """Return two moments that are written as 5..65."""
    first, _, last = text.partition("..")
    try:
        begin, end = float(first), float(last)
        if 0 <= begin < end:
            return begin, end
    except ValueError:
        pass
    raise ArgumentTypeError(f"must be two moments in seconds such as 5..65, not {text!r}")


WHOLE, SOME, SHARE, POSITIVE = number(int, 0), number(int, 1), number(float, 0), number(float, 0.001)


def option(default: Any, metavar: str | None, text: str, kind: Callable[[str], Any] = str, **more: Any) -> Any:
    """Return a field of the plan that is an option of the command line, too: `kill_worker` is --kill-worker."""
    return field(default=default, metadata={"metavar": metavar, "help": text, "type": kind, **more})


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One run. Its fields are the options of the command line, but for the last ones."""

    url: str = option("", None, "of the server (default: %(default)s)")
    key: str = option("", None, "appId.keyId:secret; default: one made for this run on the instance at DATA")
    room: str = option("swarm", None, "with several: the part before :1, :2 (default: %(default)s)")
    rooms: int = option(1, "N", "spread members and publishers over N", SOME)
    members: int = option(1000, "N", "0: publish only", WHOLE)
    rate: float = option(100, "N", "messages a second, in all", POSITIVE)
    publishers: int = option(10, "N", "connections that publish", WHOLE)
    batch: int = option(1, "N", "messages in each publish", SOME)
    seconds: float = option(10, "S", "how long to publish", POSITIVE)
    size: int = option(130, "BYTES", "of each message's data", int)
    churn: float = option(0.0, "P", "percent of members that leave a second, and come back", SHARE)
    kill_gateway: float | None = option(None, "S", KILL.format("gateway"), POSITIVE, nargs="?", const=MIDDLE)
    review: Review | None = option(None, None, REVIEW, Review, choices=list(Review))  # noqa: RUF009
    review_ms: float = option(0.0, "MS", "that this Lambda takes", SHARE)
    review_port: int = option(9310, "N", "that it listens on (default: %(default)s)", WHOLE)
    review_down: tuple[float, float] | None = option(
        None, "S..S", "the Lambda is down from S to S seconds of publishing", span
    )
    kill_worker: float | None = option(None, "S", KILL.format("worker"), POSITIVE, nargs="?", const=MIDDLE)
    slow_readers: int = option(0, "N", "of the members", WHOLE)
    slow_rate: int = option(1024, "BYTES", "that they read a second", SOME)
    processes: int = option(max(1, (os.cpu_count() or 2) // 2), "N", "more if need be", SOME)
    nap_ms: float = option(0.0, "MS", NAP, SHARE)
    format: Format = option(Format.JSON, None, "of the frames", Format, choices=list(Format))  # noqa: RUF009
    protocol: Protocol = option(Protocol.CHAT, None, PROTOCOL, Protocol, choices=list(Protocol))  # noqa: RUF009
    connect_seconds: float = option(60, "S", "for connecting; members that need longer stay out", POSITIVE)
    settle_seconds: float = option(10, "S", "patience for the last message", POSITIVE)
    run: str = ""  # tells this run's messages from other ones in the room
    members_per_process: int = MEMBERS_PER_PROCESS

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
