"""Notifies gateways of new entries and outcomes after a commit. Any of it may be lost: hubs heal from Postgres.

State changes call `after_commit` inside their transaction. In a process with an event loop (gateway, worker)
announcements are sent from that loop in batches; elsewhere (admin, commands) at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable

import msgspec
from asgiref.sync import async_to_sync
from channels.exceptions import ChannelFull
from channels.layers import get_channel_layer
from django.conf import settings
from django.db import transaction

from rooms import faults
from rooms.faults import REDIS_AWAY
from rooms.log.entries import Entry, first_within, pack
from rooms.log.outcomes import Outcome, SentOutcome

logger = logging.getLogger(__name__)

MAX_WAITING_ENTRIES = 20_000  # in a lane; beyond it the oldest are dropped, and hubs read them from Postgres
MAX_WAITING_BYTES = 67_108_864
BROADCAST_MAX_BYTES = 1_048_576
MAX_LANES = 64

GatewayOutcome = tuple[str, Outcome]  # the channel of the gateway whose author waits, and the outcome
Listener = Callable[[Sequence[Entry], Sequence[GatewayOutcome]], None]
Addressed = tuple[str, Mapping[str, Any]]  # the name of a group or channel, and the message


@runtime_checkable
class ManyLayer(Protocol):
    """A Channels layer that can send many messages in one round trip. Other layers get one message at a time.

    A lane is a part of the layer that can be away by itself, such as one server of a cluster: senders serve each lane
    separately, so that one does not wait for another.
    """

    def group_lane(self, group: str) -> Hashable:
        """Return the lane of a group."""

    def channel_lane(self, channel: str) -> Hashable:
        """Return the lane of a channel."""

    async def send_many(self, *, groups: Sequence[Addressed], channels: Sequence[Addressed]) -> None:
        """Send messages in order, within a bounded time. Raises if any of them may be lost."""


class Lane:
    """The announcements that wait for one server, and the task that sends them in batches."""

    def __init__(self, name: Hashable, origin: str) -> None:
        self.name = name
        self.origin = origin
        self.dropped = 0
        self.sender: asyncio.Task[None] | None = None
        self.away = Away(name)
        self._entries: deque[Entry] = deque()
        self._bytes = 0
        self._outcomes: deque[GatewayOutcome] = deque(maxlen=MAX_WAITING_ENTRIES)

    def add_entry(self, entry: Entry) -> None:
        """Queue an entry, and drop the oldest beyond the limits."""
        self._entries.append(entry)
        self._bytes += entry.size
        while len(self._entries) > MAX_WAITING_ENTRIES or (self._bytes > MAX_WAITING_BYTES and len(self._entries) > 1):
            self._bytes -= self._entries.popleft().size
            self.dropped += 1

    def add_outcome(self, outcome_for: GatewayOutcome) -> None:
        """Queue an outcome, and drop the oldest beyond the limit; gateways poll Postgres for those."""
        self.dropped += len(self._outcomes) == self._outcomes.maxlen
        self._outcomes.append(outcome_for)

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing is being sent."""
        return self.sender is None and not self._entries and not self._outcomes

    async def send_all(self) -> None:
        """Send batches until nothing waits."""
        try:
            while self._entries or self._outcomes:
                entries, self._entries, self._bytes = self._entries, deque(), 0
                outcomes, self._outcomes = self._outcomes, deque(maxlen=MAX_WAITING_ENTRIES)
                await send(entries, outcomes, self.away, origin=self.origin)
        finally:
            self.sender = None


class Announcer:
    """Sends announcements from the event loop of this process, by lanes; they are batched while a send is under way."""

    def __init__(self, loop: asyncio.AbstractEventLoop, listener: Listener | None = None, *, origin: str = "") -> None:
        self._origin = origin  # sent with broadcasts: a gateway skips its own, which its listener had already
        self._loop = loop
        self._listener = listener
        self._lanes: dict[Hashable, Lane] = {}
        self._dropped = 0  # by lanes that were removed

    @property
    def dropped(self) -> int:
        """The number of entries and outcomes that were not sent because their lane was too slow."""
        return self._dropped + sum(lane.dropped for lane in self._lanes.values())

    def announce(self, entries: Sequence[Entry], outcomes: Sequence[GatewayOutcome]) -> None:
        """Queue what was committed. May be called from any thread."""
        try:
            self._loop.call_soon_threadsafe(self._queue, entries, outcomes)
        except RuntimeError:  # the loop is closed: the process ends, and the gateways heal from Postgres
            logger.debug("announcement after the loop was closed")

    async def close(self) -> None:
        """Wait until everything queued is sent. The caller bounds the wait."""
        senders = [lane.sender for lane in self._lanes.values() if lane.sender is not None]
        if senders:
            await asyncio.wait(senders)

    def _queue(self, entries: Sequence[Entry], outcomes: Sequence[GatewayOutcome]) -> None:
        if self._listener is not None:
            try:
                self._listener(entries, outcomes)
            except Exception:  # the other processes must be notified all the same
                faults.record("listener of commits")
        many = _many(get_channel_layer())
        touched: dict[Hashable, Lane] = {}
        lane_of_room: dict[int, Lane] = {}
        for entry in entries:
            lane = lane_of_room.get(entry.room_id)
            if lane is None:
                name = many.group_lane(group_of(entry.room_id)) if many else None
                lane = touched[name] = lane_of_room[entry.room_id] = self._lane(name)
            lane.add_entry(entry)
        for outcome_for in outcomes:
            name = many.channel_lane(outcome_for[0]) if many else None
            lane = touched[name] = self._lane(name)
            lane.add_outcome(outcome_for)
        for lane in touched.values():
            if lane.sender is None:
                lane.sender = self._loop.create_task(lane.send_all(), name="announcer")

    def _lane(self, name: Hashable) -> Lane:
        lane = self._lanes.get(name)
        if lane is None:
            if len(self._lanes) >= MAX_LANES:
                self._drop_idle_lanes()
            lane = self._lanes[name] = Lane(name, self._origin)
        return lane

    def _drop_idle_lanes(self) -> None:
        """Remove lanes without work: servers of a cluster come and go."""
        for name, lane in list(self._lanes.items()):
            if lane.is_idle:
                self._dropped += lane.dropped
                del self._lanes[name]


class Away:
    """Logs once, not for every message, that a server is away, and once that it is back."""

    def __init__(self, lane: Hashable = None) -> None:
        self._name = "Redis" if lane is None else f"Redis ({lane})"
        self._error: Exception | None = None

    def note(self, error: Exception | None) -> None:
        """Note the result of a send: its error, or None."""
        if error is not None and self._error is None:
            logger.warning("%s is away (%s); hubs read from Postgres meanwhile", self._name, type(error).__name__)
        elif error is None and self._error is not None:
            logger.warning("%s is back", self._name)
        self._error = error


_announcer: Announcer | None = None
_away = Away()  # for processes without an announcer


def bind(announcer: Announcer | None) -> None:
    """Set the announcer of this process; None removes it."""
    global _announcer
    _announcer = announcer


def after_commit(*, entries: Sequence[Entry] = (), outcomes: Sequence[GatewayOutcome] = ()) -> None:
    """Announce entries and outcomes once the open transaction has committed."""
    if entries or outcomes:
        transaction.on_commit(lambda: _announce(entries, outcomes), robust=True)


def group_of(room_id: int) -> str:
    """Return the Channels group of the gateways that have members in a room."""
    return f"room.{room_id}"


async def send(
    entries: Iterable[Entry], outcomes: Iterable[GatewayOutcome], away: Away | None = None, *, origin: str = ""
) -> None:
    """Send entries to the gateways of their rooms, and outcomes to their authors' gateways. Never raises."""
    try:
        await _send(get_channel_layer(), groups=_broadcasts(entries, origin), channels=_outcome_messages(outcomes))
    except (*REDIS_AWAY, ChannelFull) as error:  # whatever Redis does, the hubs heal from Postgres
        (away or _away).note(error)
    except Exception:
        faults.record("broadcast")
    else:
        (away or _away).note(None)


@lru_cache(maxsize=8)  # isinstance on a Protocol takes as long as the rest of an announcement
def _many(layer: Hashable) -> ManyLayer | None:
    return layer if isinstance(layer, ManyLayer) else None


async def _send(layer: Any, *, groups: Sequence[Addressed], channels: Sequence[Addressed]) -> None:
    many = _many(layer)
    if many is not None:
        await many.send_many(groups=groups, channels=channels)
        return
    for group, message in groups:
        async with asyncio.timeout(settings.REDIS_TIMEOUT_SECONDS):
            await layer.group_send(group, message)
    for channel, message in channels:
        async with asyncio.timeout(settings.REDIS_TIMEOUT_SECONDS):
            await layer.send(channel, message)


def _broadcasts(entries: Iterable[Entry], origin: str) -> list[Addressed]:
    rooms: dict[int, list[Entry]] = defaultdict(list)
    for entry in entries:
        rooms[entry.room_id].append(entry)
    return [
        (group_of(room_id), {"type": "room.published", "origin": origin, "entries": pack(part)})
        for room_id, of_room in rooms.items()
        for part in _parts(of_room)
    ]


def _outcome_messages(outcomes: Iterable[GatewayOutcome]) -> list[Addressed]:
    gateways: dict[str, list[SentOutcome]] = defaultdict(list)
    for gateway, outcome in outcomes:
        gateways[gateway].append(_sent_outcome_of(outcome))
    return [
        (gateway, {"type": "message.decided", "news": msgspec.msgpack.encode(sent)})
        for gateway, sent in gateways.items()
    ]


def _announce(entries: Sequence[Entry], outcomes: Sequence[GatewayOutcome]) -> None:
    if _announcer is not None:
        _announcer.announce(entries, outcomes)
    else:
        async_to_sync(send)(entries, outcomes)


def _parts(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """Cut a room's entries into broadcasts of bounded size."""
    while entries:
        part = first_within(entries, BROADCAST_MAX_BYTES)
        yield part
        entries = entries[len(part) :]


def _sent_outcome_of(outcome: Outcome) -> SentOutcome:
    error = outcome.error
    return SentOutcome(
        message=outcome.message,
        kind=outcome.kind.value,
        serial=outcome.serial,
        code=error.code if error else None,
        reason=error.message if error else "",
        detail=error.detail if error else None,
    )
