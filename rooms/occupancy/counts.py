"""Counts the attachments of one gateway by room and mode. Pure.

Each event costs O(1). Gateways exchange their counts through Postgres (rooms.occupancy.store).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from rooms.errors import ChatError, Code
from rooms.protocol.wire import Flag

PARAMETER = "occupancy"  # of an ATTACH
EVENT = "[meta]occupancy"  # the name of messages with the counts
CAPABILITY = "channel-metadata"


class Metrics(NamedTuple):
    """The numbers of connections attached to a room, in all and by mode (public protocol, ChannelMetrics)."""

    connections: int = 0
    publishers: int = 0
    subscribers: int = 0
    presence_connections: int = 0
    presence_subscribers: int = 0

    @property
    def shape(self) -> dict[str, int]:
        """The counts as the wire shows them. This server has no presence yet, so it has no presence members."""
        return {
            "connections": self.connections,
            "publishers": self.publishers,
            "subscribers": self.subscribers,
            "presenceConnections": self.presence_connections,
            "presenceMembers": 0,
            "presenceSubscribers": self.presence_subscribers,
        }


NOBODY = Metrics()
CATEGORIES = frozenset(f"metrics.{name}" for name in NOBODY.shape)


def category_of(params: Mapping[str, str] | None) -> str | None:
    """Return the counts that an ATTACH subscribes to: "metrics", "metrics.<name>" or None. Raises ChatError 40003."""
    wanted = (params or {}).get(PARAMETER)
    if not wanted or wanted == "metrics" or wanted in CATEGORIES:
        return wanted or None
    raise ChatError(
        Code.INVALID_PARAMETER, f"The parameter occupancy is 'metrics' or one of {', '.join(sorted(CATEGORIES))}."
    )


def part_of(metrics: Metrics, category: str) -> dict[str, int]:
    """Return the counts of a category, as the wire shows them."""
    _, _, name = category.partition(".")
    return {name: metrics.shape[name]} if name else metrics.shape


def share_of(modes: Flag) -> Metrics:
    """Return the counts of one attachment with these modes."""
    return Metrics(
        connections=1,
        publishers=int(Flag.PUBLISH in modes),
        subscribers=int(Flag.SUBSCRIBE in modes),
        presence_connections=int(Flag.PRESENCE in modes),
        presence_subscribers=int(Flag.PRESENCE_SUBSCRIBE in modes),
    )


def total(parts: Iterable[Metrics]) -> Metrics:
    """Return the sums of counts."""
    return Metrics(*map(sum, zip(NOBODY, *parts, strict=True)))


class Counters:
    """One gateway's counts by room, and the rooms whose counts are not written to Postgres yet."""

    def __init__(self) -> None:
        self._here: dict[int, Metrics] = {}
        self._unwritten: dict[int, None] = {}

    @property
    def unwritten(self) -> int:
        """The number of rooms whose counts are not written yet."""
        return len(self._unwritten)

    def here(self, room_id: int) -> Metrics:
        """Return a room's current counts in this gateway."""
        return self._here.get(room_id, NOBODY)

    def enter(self, room_id: int, modes: Flag) -> None:
        """Add an attachment."""
        self._add(room_id, share_of(modes), 1)

    def leave(self, room_id: int, modes: Flag) -> None:
        """Remove an attachment; `modes` are those that it was last added with."""
        self._add(room_id, share_of(modes), -1)

    def changes(self, limit: int) -> list[tuple[int, Metrics]]:
        """Return counts to write, longest waiting first. They remain unwritten until they are passed to `written`."""
        return [(room_id, self.here(room_id)) for room_id in islice(self._unwritten, limit)]

    def written(self, changes: Sequence[tuple[int, Metrics]]) -> None:
        """Mark counts as written. A room that has changed since goes to the end of the line."""
        for room_id, metrics in changes:
            self._unwritten.pop(room_id, None)
            if self.here(room_id) != metrics:
                self._unwritten[room_id] = None

    def write_all_again(self) -> None:
        """Mark all counts as unwritten: Postgres has lost them."""
        self._unwritten = dict.fromkeys(self._here)

    def _add(self, room_id: int, share: Metrics, sign: int) -> None:
        now = Metrics(*(count + sign * part for count, part in zip(self.here(room_id), share, strict=True)))
        if now == NOBODY:
            self._here.pop(room_id, None)
        else:
            self._here[room_id] = now
        self._unwritten[room_id] = None
