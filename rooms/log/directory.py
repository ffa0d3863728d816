"""Rooms by name. A room is made when somebody who may use it first does."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass

from django.conf import settings

from rooms.database import threads
from rooms.errors import ChatError, Code
from rooms.models import Room

CACHED_ROOMS = 20_000


@dataclass(frozen=True, slots=True)
class RoomRef:
    """What never changes of a room."""

    id: int
    name: str
    epoch: str


def require_name(name: str | None) -> str:
    """Return the name. Raises ChatError 40010 where it cannot be a room's."""
    if not name or len(name) > settings.ROOM_NAME_MAX_CHARACTERS or "\0" in name or name.strip() != name:
        raise ChatError(
            Code.INVALID_ROOM_NAME,
            f"A room's name has 1 to {settings.ROOM_NAME_MAX_CHARACTERS} characters and no blanks at its ends.",
        )
    if name.startswith(":") or name == "*":
        raise ChatError(Code.INVALID_ROOM_NAME, "A room's name is neither '*' nor begins with ':'.")
    return name


def find_or_make(name: str) -> RoomRef:
    """Return the room of that name, made now if it is new."""
    room, _ = Room.objects.only("id", "name", "epoch").get_or_create(name=name)
    return RoomRef(room.id, room.name, room.epoch)


class Directory:
    """Rooms that this process has met, so that a publish or attach asks Postgres for a room once."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, RoomRef] = OrderedDict()
        self._asked: dict[str, asyncio.Task[RoomRef]] = {}

    async def get(self, name: str | None) -> RoomRef:
        """Return the room of that name. Raises ChatError 40010."""
        name = require_name(name)
        known = self._known.get(name)
        if known is not None:
            return known
        task = self._asked.get(name)
        if task is None:
            task = self._asked[name] = asyncio.create_task(self._ask(name), name="room")
        return await asyncio.shield(task)

    def forget(self, name: str) -> None:
        """Ask again next time: the room was deleted."""
        self._known.pop(name, None)

    async def _ask(self, name: str) -> RoomRef:
        try:
            room = await threads.repeat(find_or_make, name)
            self._known[name] = room
            while len(self._known) > CACHED_ROOMS:
                self._known.popitem(last=False)
            return room
        finally:
            del self._asked[name]
