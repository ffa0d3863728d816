"""A connection's rooms: ATTACH and DETACH, where a member starts to read, and what it may do there."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from rooms import database, queries, serials
from rooms.directory import RoomRef, require_name
from rooms.errors import ChatError, Code
from rooms.gateway import Gateway
from rooms.grants import Grant
from rooms.hub import Hub, Member
from rooms.sockets import Encoding, Socket
from rooms.wire import MODES, Action, ErrorInfo, Flag, ProtocolMessage

REWIND = re.compile(r"(\d{1,4})([sm]?)")
REWIND_MAX_MESSAGES = 100
REWIND_MAX = timedelta(minutes=120)


@dataclass(kw_only=True)
class Attachment:
    """One room of one connection. `member` is None where the client only publishes."""

    room: RoomRef
    hub: Hub
    modes: Flag
    member: Member | None


class Attachments:
    """The rooms of one connection."""

    def __init__(
        self,
        gateway: Gateway,
        socket: Socket,
        encoding: Encoding,
        *,
        connection_id: str,
        echo: bool,
        reply: Callable[[ProtocolMessage], None],
    ) -> None:
        self._gateway = gateway
        self._socket = socket
        self._encoding = encoding
        self._connection_id = connection_id
        self._echo = echo
        self._reply = reply
        self._rooms: dict[str, Attachment] = {}

    def find(self, name: str) -> Attachment | None:
        """Return the attachment of a room."""
        return self._rooms.get(name)

    async def attach(self, request: ProtocolMessage, grant: Grant) -> None:
        """Answer ATTACH with ATTACHED and start reading. Raises ChatError for this room."""
        name = require_name(request.channel)
        modes = modes_of(request, name, grant)  # before the room is made: only who may use it makes it
        if len(self._rooms) >= settings.CONNECTION_MAX_ROOMS and name not in self._rooms:
            raise ChatError(
                Code.TOO_MANY_ROOMS, f"One connection attaches to at most {settings.CONNECTION_MAX_ROOMS} rooms."
            )
        room = await self._gateway.directory.get(name)
        hub = await self._gateway.hub(room)
        after, resumed, error = await self._starting_point(request, hub)
        if resumed and after is not None and after < hub.tail.floor and not grant.capability.allows(name, "history"):
            resumed, error = await self._is_recent(hub, after)
            after = after if resumed else None
        self._leave(room.name)
        position = hub.tail.position if after is None else after
        backlog = after is not None and after < hub.tail.position
        flags = modes | (Flag.RESUMED if resumed else Flag(0)) | (Flag.HAS_BACKLOG if backlog else Flag(0))
        self._reply(self._attached(room, position, flags, request.params, error))
        member = self._join(room, hub, after, modes) if Flag.SUBSCRIBE in modes else None
        self._rooms[room.name] = Attachment(room=room, hub=hub, modes=modes, member=member)

    def detach(self, name: str | None) -> None:
        """Answer DETACH. Detaching from a room that is not attached is done already."""
        self._leave(name or "")
        self._reply(ProtocolMessage(action=Action.DETACHED, channel=name))

    def recheck(self, grant: Grant) -> None:
        """Hold all rooms against a new token: what it does not allow ends, or narrows."""
        for name, attachment in list(self._rooms.items()):
            allowed = allowed_modes(name, grant)
            if not allowed & attachment.modes:
                self._leave(name)
                error = ChatError(Code.OPERATION_NOT_PERMITTED, f"The new token allows nothing on room {name!r}.")
                self._reply(ProtocolMessage(action=Action.ERROR, channel=name, error=ErrorInfo.of(error)))
            elif Flag.SUBSCRIBE in attachment.modes and Flag.SUBSCRIBE not in allowed and attachment.member:
                attachment.hub.leave(attachment.member)
                attachment.member = None
            attachment.modes &= allowed

    def close(self) -> None:
        """Leave all rooms."""
        for name in list(self._rooms):
            self._leave(name)

    def _leave(self, name: str) -> None:
        attachment = self._rooms.pop(name, None)
        if attachment is not None and attachment.member is not None:
            attachment.hub.leave(attachment.member)

    def _join(self, room: RoomRef, hub: Hub, after: int | None, modes: Flag) -> Member:
        def discontinue(position: int) -> None:
            error = ChatError(
                Code.FELL_BEHIND,
                "This connection reads more slowly than the room writes; read what is missing from history.",
            )
            self._reply(self._attached(room, position, modes, None, error))

        member = Member(
            socket=self._socket,
            encoding=self._encoding,
            connection_id=self._connection_id,
            echo=self._echo,
            discontinue=discontinue,
        )
        hub.join(member, after=after)
        return member

    def _attached(
        self,
        room: RoomRef,
        position: int,
        flags: Flag,
        params: dict[str, str] | None,
        error: ChatError | None,
    ) -> ProtocolMessage:
        return ProtocolMessage(
            action=Action.ATTACHED,
            channel=room.name,
            channel_serial=serials.encode(room.epoch, position),
            flags=int(flags),
            params=params or None,
            error=ErrorInfo.of(error) if error else None,
        )

    async def _starting_point(self, request: ProtocolMessage, hub: Hub) -> tuple[int | None, bool, ChatError | None]:
        """Return the serial after which to read (None: from now on), whether that resumes, and what went wrong."""
        if request.channel_serial:
            decoded = serials.decode(request.channel_serial)
            if decoded is not None and decoded[0] == hub.room.epoch and decoded[1] <= hub.tail.position:
                return decoded[1], True, None
            if decoded is not None and decoded[0] == hub.room.epoch:
                # Another gateway was faster: this hub has not heard yet of what the client has already read.
                heads = await database.repeat(queries.read_heads, [hub.room.id])
                if decoded[1] <= heads.get(hub.room.id, 0):
                    hub.tail.hear_of(heads[hub.room.id])
                    return decoded[1], True, None
            error = ChatError(
                Code.CONTINUITY_LOST,
                "The serial to resume from is not one of this room; read what is missing from history.",
            )
            return None, False, error
        rewind = (request.params or {}).get("rewind")
        if rewind:
            return await database.repeat(read_rewind, hub.room, rewind), False, None
        return None, False, None

    async def _is_recent(self, hub: Hub, after: int) -> tuple[bool, ChatError | None]:
        """Tell whether somebody who may not read history was away for no longer than a resume may bridge."""
        limit = timedelta(seconds=settings.RESUME_SECONDS_WITHOUT_HISTORY)
        oldest = await database.repeat(queries.read_before_time, hub.room, timezone.now() - limit, after=after)
        if oldest <= after:
            return True, None
        return False, ChatError(
            Code.CONTINUITY_LOST, "This token may not read history, and what was missed is too old to be resumed."
        )


def allowed_modes(room: str, grant: Grant) -> Flag:
    """Return what a grant allows on a room, as mode flags."""
    modes = Flag(0)
    for operation, flag in (("publish", Flag.PUBLISH), ("subscribe", Flag.SUBSCRIBE), ("presence", Flag.PRESENCE)):
        if grant.capability.allows(room, operation):
            modes |= flag
    return modes


def modes_of(request: ProtocolMessage, room: str, grant: Grant) -> Flag:
    """Return the modes that an ATTACH gets: what it asks for (else all) as far as allowed. Raises ChatError 40160."""
    allowed = allowed_modes(room, grant)
    if not allowed and not grant.capability.allows_any(room):
        raise ChatError(
            Code.OPERATION_NOT_PERMITTED, f"The capability of this key or token allows nothing on room {room!r}."
        )
    # Masked as a number: the enum keeps every combination that it has ever seen, and peers may send any.
    wanted = Flag((request.flags or 0) & int(MODES))
    names = (request.params or {}).get("modes", "")
    for name in filter(None, names.split(",")):
        wanted |= Flag.__members__.get(name.strip().upper().replace("-", "_"), Flag(0)) & MODES
    if wanted and not wanted & allowed:
        raise ChatError(
            Code.OPERATION_NOT_PERMITTED,
            f"The capability of this key or token allows none of those modes on {room!r}.",
        )
    return wanted & allowed if wanted else allowed


def read_rewind(room: RoomRef, rewind: str) -> int:
    """Return the serial after which the last messages come that `rewind` asks for: a count, or a time as in "2m"."""
    match = REWIND.fullmatch(rewind)
    if match is None:
        raise ChatError(Code.INVALID_PARAMETER, 'The parameter rewind is a count such as "10" or a time such as "2m".')
    number, unit = int(match[1]), match[2]
    oldest = queries.read_last(room, REWIND_MAX_MESSAGES)
    if not unit:
        return max(oldest, queries.read_last(room, number))
    ago = min(timedelta(seconds=number) if unit == "s" else timedelta(minutes=number), REWIND_MAX)
    return queries.read_before_time(room, timezone.now() - ago, after=oldest)
