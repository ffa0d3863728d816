"""Finds rooms by name, and makes a room when a client with the capability first uses it.

A room that a client makes stays for good once it has a message. Until then it lasts as long as it has members: after
that rooms.occupancy.unused_rooms removes it. If members of a process still wait in it for a first message, it is made
again with the same primary key and epoch: nothing was ever in it, so clients do not notice that it was gone.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from django.conf import settings

from rooms.database import threads
from rooms.database.statements import fetch
from rooms.errors import ChatError, Code
from rooms.models import Room
from rooms.protocol.serials import draw_epoch

CACHED_ROOMS = 20_000
UNUSED_SECONDS = 60.0  # a room is kept for a client that is about to enter it; members are counted within seconds
HOLD_SECONDS = 30.0  # a room that stays for at least so long is not held again
KEPT_ANEW = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class RoomRef:
    """The fields of a room that never change. `may_go`: the room had no message when this process read it."""

    id: int
    name: str
    epoch: str
    may_go: bool = False


class Maker(NamedTuple):
    """A client that attaches to a room. `limit`: the most rooms without messages that it may have made; None: any."""

    name: str
    limit: int | None


def require_name(name: str | None) -> str:
    """Return the name of a room. Raises ChatError 40010 if it is not a valid one."""
    if not name or len(name) > settings.ROOM_NAME_MAX_CHARACTERS or "\0" in name or name.strip() != name:
        raise ChatError(
            Code.INVALID_ROOM_NAME,
            f"A room's name has 1 to {settings.ROOM_NAME_MAX_CHARACTERS} characters and no blanks at its ends.",
        )
    if name.startswith(":") or name == "*":
        raise ChatError(Code.INVALID_ROOM_NAME, "A room's name is neither '*' nor begins with ':'.")
    return name


def find(name: str) -> RoomRef | None:
    """Return the room with a name."""
    record = Room.objects.filter(name=name).values_list("id", "epoch", "unused_after").first()
    return None if record is None else RoomRef(record[0], name, record[1], record[2] is not None)


def find_or_make(name: str, maker: Maker | None = None) -> RoomRef:
    """Return the room with a name; make it if it is new. Raises ChatError 90010 if its maker has made too many."""
    return _read_or_make(name, maker)[0]


def make(name: str, maker: Maker | None = None) -> RoomRef | None:
    """Make a room and return it; None if there is one meanwhile. Raises ChatError 90010 as find_or_make does."""
    limited = maker if maker is not None and maker.limit is not None else None
    if limited is not None:
        _require_fewer(limited)
    epoch = draw_epoch()
    made = fetch(
        "INSERT INTO rooms_room (name, title, description, listed, epoch, head, created_at, unused_after, made_by) "
        "VALUES (%(name)s, '', '', false, %(epoch)s, 0, clock_timestamp(), "
        "clock_timestamp() + make_interval(secs => %(seconds)s), %(made_by)s) "
        "ON CONFLICT (name) DO NOTHING RETURNING id",
        name=name,
        epoch=epoch,
        seconds=UNUSED_SECONDS,
        made_by=limited and limited.name,
    )
    return RoomRef(made[0][0], name, epoch, may_go=True) if made else None


def make_again(gone: RoomRef) -> RoomRef:
    """Return a room after it was removed, made again under its name; as it was, if it never had a message."""
    if gone.may_go:
        fetch(
            "INSERT INTO rooms_room (id, name, title, description, listed, epoch, head, created_at, unused_after) "
            "VALUES (%(id)s, %(name)s, '', '', false, %(epoch)s, 0, clock_timestamp(), "
            "clock_timestamp() + make_interval(secs => %(seconds)s)) ON CONFLICT DO NOTHING",
            id=gone.id,
            name=gone.name,
            epoch=gone.epoch,
            seconds=UNUSED_SECONDS,
        )
    return find_or_make(gone.name)


def hold(room_id: int) -> bool:
    """Keep a room for a moment, in which a client enters it. Return whether the room exists."""
    fetch(
        "UPDATE rooms_room SET unused_after = clock_timestamp() + make_interval(secs => %(seconds)s) "
        "WHERE id = %(room)s AND unused_after < clock_timestamp() + make_interval(secs => %(enough)s)",
        room=room_id,
        seconds=UNUSED_SECONDS,
        enough=HOLD_SECONDS,
    )
    return Room.objects.filter(pk=room_id).exists()


def keep_until(room_ids: Collection[int], moment: datetime) -> None:
    """Keep rooms until about a moment, with or without members. Rooms that stay anyway are not changed."""
    rooms = Room.objects.filter(pk__in=room_ids, unused_after__lt=moment - KEPT_ANEW)
    rooms.update(unused_after=moment)


def _read_or_make(name: str, maker: Maker | None) -> tuple[RoomRef, bool]:
    """Return the room with a name, and whether it was made for this call."""
    room = find(name)
    if room is not None:
        return room, False
    made = make(name, maker)
    return (made, True) if made is not None else _read_or_make(name, maker)


def _require_fewer(maker: Maker) -> None:
    if Room.objects.filter(made_by=maker.name)[: maker.limit].count() >= (maker.limit or 0):
        raise ChatError(
            Code.TOO_MANY_ROOMS,
            f"There are {maker.limit} rooms already to which this client attached, and in which nobody has written. "
            "Detach from some and try again in a few minutes, or let somebody publish in them.",
        )


class Directory:
    """The rooms that this process has used, so that it reads each from Postgres once, not for every publish."""

    def __init__(self, *, has_waiting_members: Callable[[int], bool] = lambda room_id: False) -> None:
        self.made = 0  # rooms, by attaching; these two for the metrics
        self.refused = 0
        # Of a room by its primary key: members here that have seen no message in it.
        self._has_waiting_members = has_waiting_members
        self._known: OrderedDict[str, RoomRef] = OrderedDict()
        self._reads: dict[str, asyncio.Task[RoomRef]] = {}

    async def get(self, name: str | None, maker: Maker | None = None) -> RoomRef:
        """Return the room with a name; make it if it is new: for `maker`, a client that attaches, or for a publish.

        Raises ChatError 40010, and 90010 if the maker has made too many.
        """
        name = require_name(name)
        known = self._known.get(name)
        if known is not None:
            return known
        task = self._reads.get(name)
        if task is None:
            task = self._reads[name] = asyncio.create_task(self._read(name, maker), name="room")
        return await asyncio.shield(task)

    async def find(self, name: str) -> RoomRef | None:
        """Return the room with a name, None where there is none. Makes no room.

        A room that had no message when it was read may have been removed since, and made anew by another gateway.
        """
        known = self._known.get(name)
        if known is not None and not known.may_go:
            return known
        room = await threads.repeat(find, name)
        if known is not None and room is not None:
            self._remember(room)
        return room

    async def make_again(self, name: str) -> RoomRef:
        """Return the room with a name after a publish found that it was removed.

        It is the same room only for members that wait in it for a first message. In every other case something may have
        been published in it before somebody deleted it: its serials must not be given out twice.
        """
        gone = self._known.pop(name, None)
        if gone is not None and gone.may_go and self._has_waiting_members(gone.id):
            room = await threads.repeat(make_again, gone)
        else:
            room = await threads.repeat(find_or_make, name)
        self._remember(room)
        return room

    def forget(self, name: str) -> None:
        """Drop a room that was deleted; the next `get` reads it anew."""
        self._known.pop(name, None)

    def _remember(self, room: RoomRef) -> None:
        self._known[room.name] = room
        while len(self._known) > CACHED_ROOMS:
            self._known.popitem(last=False)

    async def _read(self, name: str, maker: Maker | None) -> RoomRef:
        try:
            room, is_new = await threads.repeat(_read_or_make, name, maker)
            self.made += is_new and maker is not None
        except ChatError:
            self.refused += 1
            raise
        finally:
            del self._reads[name]
        self._remember(room)
        return room
