"""Finds rooms by name, and makes a room when a client with the capability first uses it."""

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
    """The fields of a room that never change."""

    id: int
    name: str
    epoch: str


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


def find_or_make(name: str) -> RoomRef:
    """Return the room with a name; make it if it is new."""
    room, _ = Room.objects.only("id", "name", "epoch").get_or_create(name=name)
    return RoomRef(room.id, room.name, room.epoch)


class Directory:
    """The rooms that this process has used, so that it reads each from Postgres once, not for every publish."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, RoomRef] = OrderedDict()
        self._reads: dict[str, asyncio.Task[RoomRef]] = {}

    async def get(self, name: str | None) -> RoomRef:
        """Return the room with a name; make it if it is new. Raises ChatError 40010."""
        name = require_name(name)
        known = self._known.get(name)
        if known is not None:
            return known
        task = self._reads.get(name)
        if task is None:
            task = self._reads[name] = asyncio.create_task(self._read(name), name="room")
        return await asyncio.shield(task)

    def forget(self, name: str) -> None:
        """Drop a room that was deleted; the next `get` reads it anew."""
        self._known.pop(name, None)

    async def _read(self, name: str) -> RoomRef:
        try:
            room = await threads.repeat(find_or_make, name)
            self._known[name] = room
            while len(self._known) > CACHED_ROOMS:
                self._known.popitem(last=False)
            return room
        finally:
            del self._reads[name]
