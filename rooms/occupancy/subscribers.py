"""The members who asked how many are in their room, and telling them: on change, by one frame shared by all.

A frame carries the serial at which its reader stands: clients take that field for their position, and some forget
theirs where it is missing. So it moves nobody, and is no entry of the log.
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

SLICE_ASKERS = 128  # told before the loop, and other rooms, have their turn: less than a millisecond


class OccupancySubscriber:
    """One member who asked. `told` is what it knows."""

    __slots__ = ("category", "member", "room_id", "told")

    def __init__(self, room_id: int, member: Member, category: str) -> None:
        self.room_id = room_id
        self.member = member
        self.category = category
        self.told: dict[str, int] | None = None


class SubscribedRoom:
    """A room that somebody asks about. `due` may have to be told, those first who were told longest ago."""

    __slots__ = ("due", "metrics", "room", "subscribers")

    def __init__(self, room: RoomRef) -> None:
        self.room = room
        self.metrics = NOBODY
        self.subscribers: dict[OccupancySubscriber, None] = {}
        self.due: dict[OccupancySubscriber, None] = {}


class OccupancySubscribers:
    """The subscribers of one gateway. `server_id` is a part of the ids of what they are sent."""

    def __init__(self, server_id: str, *, limit: int) -> None:
        self.told = 0  # frames written, for the metrics
        self._server_id = server_id
        self._limit = limit
        self._count = 0
        self._frames = 0
        self._rooms: dict[int, SubscribedRoom] = {}
        self._due: dict[int, None] = {}  # rooms in which somebody is due, in the order of their turns

    def __len__(self) -> int:
        return self._count

    @property
    def has_room(self) -> bool:
        """Whether one more may ask."""
        return self._count < self._limit

    def add(self, room: RoomRef, member: Member, category: str) -> OccupancySubscriber:
        """Tell a member from now on, the first time soon."""
        asked = self._rooms.get(room.id)
        if asked is None:
            asked = self._rooms[room.id] = SubscribedRoom(room)
        subscriber = OccupancySubscriber(room.id, member, category)
        asked.subscribers[subscriber] = None
        if asked.metrics != NOBODY:  # else the first count makes it due
            asked.due[subscriber] = self._due[room.id] = None
        self._count += 1
        return subscriber

    def remove(self, subscriber: OccupancySubscriber) -> None:
        """Tell a member no more. Calling twice is calling once."""
        asked = self._rooms.get(subscriber.room_id)
        if asked is None or subscriber not in asked.subscribers:
            return
        self._count -= 1
        del asked.subscribers[subscriber]
        asked.due.pop(subscriber, None)
        if not asked.subscribers:
            del self._rooms[subscriber.room_id]
            self._due.pop(subscriber.room_id, None)

    def rooms(self, limit: int) -> list[int]:
        """Return rooms whose counts are wanted. Where there are more than the limit, all have their turn."""
        chosen = list(islice(self._rooms, limit))
        if len(chosen) < len(self._rooms):
            for room_id in chosen:
                self._rooms[room_id] = self._rooms.pop(room_id)
        return chosen

    def learn(self, counts: Iterable[tuple[int, Metrics]]) -> None:
        """Take new counts. Where they have changed, all subscribers are due; who was due for older ones skips those."""
        for room_id, metrics in counts:
            asked = self._rooms.get(room_id)
            if asked is not None and asked.metrics != metrics:
                asked.metrics = metrics
                asked.due = dict(asked.subscribers)
                self._due[room_id] = None

    def deliver(self, limit: int) -> Iterator[None]:
        """Write to those who are due, to at most `limit` of them, and yield between slices.

        Who still has something unsent is passed over: once it has read that, it is told what holds by then.
        """
        passed_over: list[OccupancySubscriber] = []
        try:
            while self._due and limit > 0:
                asked = self._rooms[room_id := next(iter(self._due))]
                limit -= self._write_slice(asked, min(limit, SLICE_ASKERS), passed_over)
                del self._due[room_id]
                if asked.due:
                    self._due[room_id] = None  # at the end: the other rooms have their turn
                yield
        finally:
            for subscriber in passed_over:
                remaining = self._rooms.get(subscriber.room_id)
                if remaining is not None and subscriber in remaining.subscribers:
                    remaining.due[subscriber] = self._due[subscriber.room_id] = None

    def _write_slice(self, asked: SubscribedRoom, limit: int, passed_over: list[OccupancySubscriber]) -> int:
        """Write to the next who are due in one room. Return to how many it was tried."""
        frames: dict[tuple[Encoding, str, int], Frames] = {}
        values: dict[str, dict[str, int]] = {}
        tried = 0
        for subscriber in list(islice(asked.due, limit)):
            del asked.due[subscriber]
            value = values.setdefault(subscriber.category, part_of(asked.metrics, subscriber.category))
            if subscriber.told == value:
                continue
            member = subscriber.member
            key = member.encoding, subscriber.category, member.position
            if key not in frames:
                frames[key] = self._frame(asked.room, member.encoding, member.position, value)
            tried += 1
            if member.write(frames[key]):
                self.told += 1
                subscriber.told = value
                del asked.subscribers[subscriber]
                asked.subscribers[subscriber] = None
            else:
                passed_over.append(subscriber)
        return tried

    def _frame(self, room: RoomRef, encoding: Encoding, position: int, value: dict[str, int]) -> Frames:
        self._frames += 1
        now = int(time.time() * 1000)
        told = Message(
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
            messages=[told],
        )
        return encoding.join([encoding.piece(encode(message, encoding.format))])
