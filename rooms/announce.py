"""After a commit: telling the gateways. Everything here may be lost; Postgres is the truth and the hubs heal.

State changes call `after_commit` inside their transaction, so that nobody can forget it. In a process with an
event loop (gateway, worker) the news go to that loop and out in batches; elsewhere (admin, commands) they are
sent at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import transaction

from rooms.log import Entry, pack
from rooms.outcomes import News, Outcome

logger = logging.getLogger(__name__)

SEND_TIMEOUT_SECONDS = 2.0  # a Redis that hangs must not hold back the next broadcast for longer
MAX_WAITING_ENTRIES = 20_000  # beyond these the oldest are dropped; hubs read them from Postgres
MAX_WAITING_BYTES = 67_108_864
BROADCAST_MAX_BYTES = 1_048_576

Told = tuple[str, Outcome]  # the gateway whose author waits, and what became of the message
Listener = Callable[[Sequence[Entry], Sequence[Told]], None]


class Announcer:
    """Sends what was committed from the loop of this process, batching while a send is under way."""

    def __init__(self, loop: asyncio.AbstractEventLoop, listener: Listener | None = None) -> None:
        self.dropped = 0
        self._loop = loop
        self._listener = listener
        self._entries: deque[Entry] = deque()
        self._bytes = 0
        self._news: deque[Told] = deque(maxlen=MAX_WAITING_ENTRIES)
        self._sender: asyncio.Task[None] | None = None

    def announce(self, entries: Sequence[Entry], news: Sequence[Told]) -> None:
        """Take what was committed, from any thread."""
        try:
            self._loop.call_soon_threadsafe(self._take, entries, news)
        except RuntimeError:  # the loop is closed: the process is on its way out, others heal
            logger.debug("announcement after the loop was closed")

    async def close(self) -> None:
        """Wait until everything taken is sent. The caller bounds the wait."""
        if self._sender is not None:
            await asyncio.wait([self._sender])

    def _take(self, entries: Sequence[Entry], news: Sequence[Told]) -> None:
        if self._listener is not None:
            self._listener(entries, news)
        self._entries.extend(entries)
        self._bytes += sum(entry.size for entry in entries)
        self._news.extend(news)
        while len(self._entries) > MAX_WAITING_ENTRIES or self._bytes > MAX_WAITING_BYTES:
            self._bytes -= self._entries.popleft().size
            self.dropped += 1
        if self._sender is None:
            self._sender = self._loop.create_task(self._send_all(), name="announcer")

    async def _send_all(self) -> None:
        try:
            while self._entries or self._news:
                entries, self._entries, self._bytes = self._entries, deque(), 0
                news, self._news = self._news, deque(maxlen=MAX_WAITING_ENTRIES)
                await send(entries, news)
        finally:
            self._sender = None


_announcer: Announcer | None = None
_redis_is_away = False  # so that an outage is told once, not once a message


def bind(announcer: Announcer | None) -> None:
    """Make an announcer the one of this process; None takes it away."""
    global _announcer
    _announcer = announcer


def after_commit(*, entries: Sequence[Entry] = (), news: Sequence[Told] = ()) -> None:
    """Announce once the transaction that is open now has committed."""
    if entries or news:
        transaction.on_commit(lambda: _announce(entries, news), robust=True)


def group_of(room_id: int) -> str:
    """Return the Channels group whose members are the gateways with somebody in the room."""
    return f"room.{room_id}"


async def send(entries: Sequence[Entry] | deque[Entry], news: Sequence[Told] | deque[Told]) -> None:
    """Send entries to the gateways of their rooms, and news to the gateways that wait. Never raises."""
    layer = get_channel_layer()
    assert layer is not None
    rooms: dict[int, list[Entry]] = defaultdict(list)
    for entry in entries:
        rooms[entry.room_id].append(entry)
    for room_id, of_room in rooms.items():
        for part in _parts(of_room):
            message = {"type": "room.published", "entries": pack(part)}
            await _bounded(layer.group_send(group_of(room_id), message))
    gateways: dict[str, list[News]] = defaultdict(list)
    for gateway, outcome in news:
        gateways[gateway].append(_news_of(outcome))
    for gateway, told in gateways.items():
        message = {"type": "message.decided", "news": msgspec.msgpack.encode(told)}
        await _bounded(layer.send(gateway, message))


def _announce(entries: Sequence[Entry], news: Sequence[Told]) -> None:
    if _announcer is not None:
        _announcer.announce(entries, news)
    else:
        async_to_sync(send)(entries, news)


async def _bounded(sending: Awaitable[Any]) -> None:
    global _redis_is_away
    try:
        await asyncio.wait_for(sending, SEND_TIMEOUT_SECONDS)
    except Exception as error:  # whatever Redis does, the hubs heal from Postgres
        if not _redis_is_away:
            logger.warning("Redis is away (%s); hubs read from Postgres meanwhile", type(error).__name__)
        _redis_is_away = True
        return
    if _redis_is_away:
        logger.warning("Redis is back")
    _redis_is_away = False


def _parts(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Cut a room's entries into broadcasts of bounded size."""
    parts: list[list[Entry]] = [[]]
    size = 0
    for entry in entries:
        if size + entry.size > BROADCAST_MAX_BYTES and parts[-1]:
            parts.append([])
            size = 0
        parts[-1].append(entry)
        size += entry.size
    return parts


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
