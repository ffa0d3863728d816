"""Sends the counts of rooms to the members that subscribed to them, on change, in frames that members share.

A frame is no entry of the log, but it carries the serial of its reader's position: clients take that field for their
position, and some lose theirs if it is missing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from itertools import islice

from rooms.fanout.hub import Member
from rooms.fanout.sockets import Encoding, Frames
from rooms.log.directory import RoomRef
from rooms.occupancy.counts import EVENT, NOBODY, Metrics, part_of
from rooms.protocol.serials import encode as encode_serial
from rooms.protocol.wire import META_ACTION, Action, Message, ProtocolMessage, encode

SLICE_SUBSCRIBERS = 128  # written to before the loop and other rooms have their turn: less than a millisecond


class OccupancySubscriber:
    """A member that subscribed to a room's counts. `sent` is the last value that it got."""

    __slots__ = ("category", "member", "room_id", "sent")

    def __init__(self, room_id: int, member: Member, category: str) -> None:
        self.room_id = room_id
        self.member = member
        self.category = category
        self.sent: dict[str, int] | None = None


class SubscribedRoom:
    """A room with subscribers. Those in `due` may need the new counts, the ones that got theirs longest ago first."""

    __slots__ = ("due", "metrics", "room", "subscribers")

    def __init__(self, room: RoomRef) -> None:
        self.room = room
        self.metrics = NOBODY
        self.subscribers: dict[OccupancySubscriber, None] = {}
        self.due: dict[OccupancySubscriber, None] = {}


class OccupancySubscribers:
    """The subscribers of one gateway. `server_id` is a part of the ids of their messages."""

    def __init__(self, server_id: str, *, limit: int) -> None:
        self.written = 0  # frames written, for the metrics
        self._server_id = server_id
        self._limit = limit
        self._count = 0
        self._frames = 0
        self._rooms: dict[int, SubscribedRoom] = {}
        self._due: dict[int, None] = {}  # rooms with due subscribers, in the order of their turns

    def __len__(self) -> int:
        return self._count

    @property
    def has_capacity(self) -> bool:
        """Whether one more subscriber may be added."""
        return self._count < self._limit

    def add(self, room: RoomRef, member: Member, category: str) -> OccupancySubscriber:
        """Subscribe a member; it gets the counts soon, and on each change."""
        subscribed = self._rooms.get(room.id)
        if subscribed is None:
            subscribed = self._rooms[room.id] = SubscribedRoom(room)
        subscriber = OccupancySubscriber(room.id, member, category)
        subscribed.subscribers[subscriber] = None
        if subscribed.metrics != NOBODY:  # else the first count makes it due
            subscribed.due[subscriber] = self._due[room.id] = None
        self._count += 1
        return subscriber

    def remove(self, subscriber: OccupancySubscriber) -> None:
        """Unsubscribe a member. Calling twice has no further effect."""
        subscribed = self._rooms.get(subscriber.room_id)
        if subscribed is None or subscriber not in subscribed.subscribers:
            return
        self._count -= 1
        del subscribed.subscribers[subscriber]
        subscribed.due.pop(subscriber, None)
        if not subscribed.subscribers:
            del self._rooms[subscriber.room_id]
            self._due.pop(subscriber.room_id, None)

    def rooms(self, limit: int) -> list[int]:
        """Return up to `limit` rooms with subscribers; if there are more, they take turns."""
        chosen = list(islice(self._rooms, limit))
        if len(chosen) < len(self._rooms):
            for room_id in chosen:
                self._rooms[room_id] = self._rooms.pop(room_id)
        return chosen

    def update(self, counts: Iterable[tuple[int, Metrics]]) -> None:
        """Set the counts of rooms. All subscribers of a changed room become due, for these counts only."""
        for room_id, metrics in counts:
            subscribed = self._rooms.get(room_id)
            if subscribed is not None and subscribed.metrics != metrics:
                subscribed.metrics = metrics
                subscribed.due = dict(subscribed.subscribers)
                self._due[room_id] = None

    def deliver(self, limit: int) -> Iterator[None]:
        """Write the counts to at most `limit` due subscribers, and yield between slices.

        One whose socket still has unsent bytes is skipped; once it has read them, it gets the counts of that time.
        """
        skipped: list[OccupancySubscriber] = []
        try:
            while self._due and limit > 0:
                subscribed = self._rooms[room_id := next(iter(self._due))]
                limit -= self._write_slice(subscribed, min(limit, SLICE_SUBSCRIBERS), skipped)
                del self._due[room_id]
                if subscribed.due:
                    self._due[room_id] = None  # at the end: the other rooms have their turn
                yield
        finally:
            for subscriber in skipped:
                remaining = self._rooms.get(subscriber.room_id)
                if remaining is not None and subscriber in remaining.subscribers:
                    remaining.due[subscriber] = self._due[subscriber.room_id] = None

    def _write_slice(self, subscribed: SubscribedRoom, limit: int, skipped: list[OccupancySubscriber]) -> int:
        """Write to the next due subscribers of a room. Return the number of attempts."""
        frames: dict[tuple[Encoding, str, int], Frames] = {}
        values: dict[str, dict[str, int]] = {}
        tried = 0
        for subscriber in list(islice(subscribed.due, limit)):
            del subscribed.due[subscriber]
            value = values.setdefault(subscriber.category, part_of(subscribed.metrics, subscriber.category))
            if subscriber.sent == value:
                continue
            member = subscriber.member
            key = member.encoding, subscriber.category, member.position
            if key not in frames:
                frames[key] = self._frame(subscribed.room, member.encoding, member.position, value)
            tried += 1
            if member.write(frames[key]):
                self.written += 1
                subscriber.sent = value
                del subscribed.subscribers[subscriber]
                subscribed.subscribers[subscriber] = None
            else:
                skipped.append(subscriber)
        return tried

    def _frame(self, room: RoomRef, encoding: Encoding, position: int, value: dict[str, int]) -> Frames:
        self._frames += 1
        now = int(time.time() * 1000)
        counts = Message(
            id=f"{self._server_id}-occupancy:{self._frames}:0",
            name=EVENT,
            data=json.dumps({"metrics": value}, separators=(",", ":")),
            encoding="json",
            timestamp=now,
            action=META_ACTION,
        )
        message = ProtocolMessage(
            action=Action.MESSAGE,
            channel=room.name,
            channel_serial=encode_serial(room.epoch, position),
            timestamp=now,
            messages=[counts],
        )
        return encoding.join([encoding.piece(encode(message, encoding.format))])
