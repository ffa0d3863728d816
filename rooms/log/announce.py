"""After a commit: telling the gateways. Everything here may be lost; Postgres is the truth and the hubs heal.

State changes call `after_commit` inside their transaction, so that nobody can forget it. In a process with an
event loop (gateway, worker) the news go to that loop and out in batches; elsewhere (admin, commands) they are
sent at once.
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
from channels.layers import get_channel_layer
from django.conf import settings
from django.db import transaction

from rooms.log.entries import Entry, first_within, pack
from rooms.log.outcomes import News, Outcome

logger = logging.getLogger(__name__)

MAX_WAITING_ENTRIES = 20_000  # in a lane; beyond these the oldest are dropped; hubs read them from Postgres
MAX_WAITING_BYTES = 67_108_864
BROADCAST_MAX_BYTES = 1_048_576
MAX_LANES = 64

GatewayOutcome = tuple[str, Outcome]  # the gateway whose author waits, and what became of the message
Listener = Callable[[Sequence[Entry], Sequence[GatewayOutcome]], None]
Addressed = tuple[str, Mapping[str, Any]]  # a group's or a channel's name, and the message


@runtime_checkable
class ManyLayer(Protocol):
    """A Channels layer that sends many messages in one round trip. Others are sent one message at a time.

    A lane is what hangs together, a server for instance: who sends to several lanes need not wait for one of them.
    """

    def group_lane(self, group: str) -> Hashable:
        """Return the lane of a group."""

    def channel_lane(self, channel: str) -> Hashable:
        """Return the lane of a channel."""

    async def send_many(self, *, groups: Sequence[Addressed], channels: Sequence[Addressed]) -> None:
        """Send all of them, in order, within a bounded time. Raises when any may not have gone out."""


class Lane:
    """What waits for one server, and the task that sends it. What comes meanwhile is the next batch."""

    def __init__(self, name: Hashable, origin: str) -> None:
        self.name = name
        self.origin = origin
        self.dropped = 0
        self.sender: asyncio.Task[None] | None = None
        self.away = Away(name)
        self._entries: deque[Entry] = deque()
        self._bytes = 0
        self._news: deque[GatewayOutcome] = deque(maxlen=MAX_WAITING_ENTRIES)

    def add_entry(self, entry: Entry) -> None:
        """Take an entry; the oldest make room for it."""
        self._entries.append(entry)
        self._bytes += entry.size
        while len(self._entries) > MAX_WAITING_ENTRIES or (self._bytes > MAX_WAITING_BYTES and len(self._entries) > 1):
            self._bytes -= self._entries.popleft().size
            self.dropped += 1

    def add_news(self, outcome_for: GatewayOutcome) -> None:
        """Take news; the oldest make room for them, and who hears nothing asks Postgres."""
        self.dropped += len(self._news) == self._news.maxlen
        self._news.append(outcome_for)

    @property
    def is_idle(self) -> bool:
        """True while nothing waits and nothing is being sent."""
        return self.sender is None and not self._entries and not self._news

    async def send_all(self) -> None:
        """Send until nothing waits."""
        try:
            while self._entries or self._news:
                entries, self._entries, self._bytes = self._entries, deque(), 0
                news, self._news = self._news, deque(maxlen=MAX_WAITING_ENTRIES)
                await send(entries, news, self.away, origin=self.origin)
        finally:
            self.sender = None


class Announcer:
    """Sends what was committed from the loop of this process, in lanes, batching while a send is under way."""

    def __init__(self, loop: asyncio.AbstractEventLoop, listener: Listener | None = None, *, origin: str = "") -> None:
        self._origin = origin  # goes with broadcasts: who has a listener knows its own by it
        self._loop = loop
        self._listener = listener
        self._lanes: dict[Hashable, Lane] = {}
        self._dropped = 0  # by lanes that are gone

    @property
    def dropped(self) -> int:
        """Entries and news that were not broadcast because their lane was too slow."""
        return self._dropped + sum(lane.dropped for lane in self._lanes.values())

    def announce(self, entries: Sequence[Entry], news: Sequence[GatewayOutcome]) -> None:
        """Take what was committed, from any thread."""
        try:
            self._loop.call_soon_threadsafe(self._queue, entries, news)
        except RuntimeError:  # the loop is closed: the process is on its way out, others heal
            logger.debug("announcement after the loop was closed")

    async def close(self) -> None:
        """Wait until everything taken is sent. The caller bounds the wait."""
        senders = [lane.sender for lane in self._lanes.values() if lane.sender is not None]
        if senders:
            await asyncio.wait(senders)

    def _queue(self, entries: Sequence[Entry], news: Sequence[GatewayOutcome]) -> None:
        if self._listener is not None:
            try:
                self._listener(entries, news)
            except Exception:  # the others are to hear of it all the same
                logger.exception("what was committed here could not be taken")
        many = _many(get_channel_layer())
        touched: dict[Hashable, Lane] = {}
        lane_of_room: dict[int, Lane] = {}
        for entry in entries:
            lane = lane_of_room.get(entry.room_id)
            if lane is None:
                name = many.group_lane(group_of(entry.room_id)) if many else None
                lane = touched[name] = lane_of_room[entry.room_id] = self._lane(name)
            lane.add_entry(entry)
        for outcome_for in news:
            name = many.channel_lane(outcome_for[0]) if many else None
            lane = touched[name] = self._lane(name)
            lane.add_news(outcome_for)
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
        """Forget the lanes of servers that are gone: in a cluster they come and go."""
        for name, lane in list(self._lanes.items()):
            if lane.is_idle:
                self._dropped += lane.dropped
                del self._lanes[name]


class Away:
    """Says once, not at every message, that a server is away and that it is back."""

    def __init__(self, lane: Hashable = None) -> None:
        self._name = "Redis" if lane is None else f"Redis ({lane})"
        self._error: Exception | None = None

    def note(self, error: Exception | None) -> None:
        """Take how a send ended."""
        if error is not None and self._error is None:
            logger.warning("%s is away (%s); hubs read from Postgres meanwhile", self._name, type(error).__name__)
        elif error is None and self._error is not None:
            logger.warning("%s is back", self._name)
        self._error = error


_announcer: Announcer | None = None
_away = Away()  # of processes without an announcer


def bind(announcer: Announcer | None) -> None:
    """Make an announcer the one of this process; None takes it away."""
    global _announcer
    _announcer = announcer


def after_commit(*, entries: Sequence[Entry] = (), news: Sequence[GatewayOutcome] = ()) -> None:
    """Announce once the transaction that is open now has committed."""
    if entries or news:
        transaction.on_commit(lambda: _announce(entries, news), robust=True)


def group_of(room_id: int) -> str:
    """Return the Channels group whose members are the gateways with somebody in the room."""
    return f"room.{room_id}"


async def send(
    entries: Iterable[Entry], news: Iterable[GatewayOutcome], away: Away | None = None, *, origin: str = ""
) -> None:
    """Send entries to the gateways of their rooms, and news to the gateways that wait. Never raises."""
    try:
        await _send(get_channel_layer(), groups=_broadcasts(entries, origin), channels=_letters(news))
    except Exception as error:  # whatever Redis does, the hubs heal from Postgres
        (away or _away).note(error)
    else:
        (away or _away).note(None)


@lru_cache(maxsize=8)  # asking a protocol takes as long as the rest of an announcement
def _many(layer: Hashable) -> ManyLayer | None:
    return layer if isinstance(layer, ManyLayer) else None


async def _send(layer: Any, *, groups: Sequence[Addressed], channels: Sequence[Addressed]) -> None:
    many = _many(layer)
    if many is not None:
        await many.send_many(groups=groups, channels=channels)
        return
    for group, message in groups:
        await asyncio.wait_for(layer.group_send(group, message), settings.REDIS_TIMEOUT_SECONDS)
    for channel, message in channels:
        await asyncio.wait_for(layer.send(channel, message), settings.REDIS_TIMEOUT_SECONDS)


def _broadcasts(entries: Iterable[Entry], origin: str) -> list[Addressed]:
    rooms: dict[int, list[Entry]] = defaultdict(list)
    for entry in entries:
        rooms[entry.room_id].append(entry)
    return [
        (group_of(room_id), {"type": "room.published", "origin": origin, "entries": pack(part)})
        for room_id, of_room in rooms.items()
        for part in _parts(of_room)
    ]


def _letters(news: Iterable[GatewayOutcome]) -> list[Addressed]:
    gateways: dict[str, list[News]] = defaultdict(list)
    for gateway, outcome in news:
        gateways[gateway].append(_news_of(outcome))
    return [
        (gateway, {"type": "message.decided", "news": msgspec.msgpack.encode(outcome_for)})
        for gateway, outcome_for in gateways.items()
    ]


def _announce(entries: Sequence[Entry], news: Sequence[GatewayOutcome]) -> None:
    if _announcer is not None:
        _announcer.announce(entries, news)
    else:
        async_to_sync(send)(entries, news)


def _parts(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """Cut a room's entries into broadcasts of bounded size."""
    while entries:
        part = first_within(entries, BROADCAST_MAX_BYTES)
        yield part
        entries = entries[len(part) :]


def _news_of(outcome: Outcome) -> News:
    error = outcome.error
    return News(
        message=outcome.message,
        kind=outcome.kind.value,
        serial=outcome.serial,
        code=error.code if error else None,
        reason=error.message if error else "",
        detail=error.detail if error else None,
    )
