"""Attaches a connection to rooms and detaches it: the modes that it gets, and the serial after which it reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from django.conf import settings

from rooms.access.grants import ANY_CLIENT, Grant
from rooms.errors import ChatError, Code
from rooms.fanout.hub import Hub, Member
from rooms.fanout.sockets import Encoding, Socket
from rooms.gateway.gateway import Gateway
from rooms.log.directory import Maker, RoomRef, require_name
from rooms.occupancy import counts
from rooms.occupancy.subscribers import OccupancySubscriber
from rooms.protocol import serials
from rooms.protocol.wire import MODES, Action, ErrorInfo, Flag, ProtocolMessage

# Rooms without messages that a client without the capability to publish may have made by attaching. Anonymous clients
# share the limit of their key.
ROOMS_MADE_PER_CLIENT = 500
ROOMS_MADE_PER_KEY = 5_000
OPERATION_MODES = (
    ("publish", Flag.PUBLISH),
    ("subscribe", Flag.SUBSCRIBE | Flag.PRESENCE_SUBSCRIBE),
    ("presence", Flag.PRESENCE),
    ("presence-subscribe", Flag.PRESENCE_SUBSCRIBE),
)


@dataclass(kw_only=True)
class Attachment:
    """One room of one connection. `member` is None if the client only publishes.

    The room's occupancy counts it with its `modes`; `subscriber` is set if the client subscribed to the counts.
    """

    room: RoomRef
    hub: Hub
    modes: Flag
    member: Member | None
    subscriber: OccupancySubscriber | None = None


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
        self._is_closed = False

    def find(self, name: str) -> Attachment | None:
        """Return the attachment to a room; None if the connection is not attached to it."""
        return self._rooms.get(name)

    async def attach(self, request: ProtocolMessage, grant: Grant) -> None:
        """Answer ATTACH with ATTACHED, and add the member to the hub. Raises ChatError about this room."""
        name = require_name(request.channel)
        modes = modes_of(request, name, grant)  # before the room is made: only a client that may use it makes it
        category = counts.category_of(request.params)
        if category:
            grant.require(name, counts.CAPABILITY)
        if len(self._rooms) >= settings.CONNECTION_MAX_ROOMS and name not in self._rooms:
            raise ChatError(
                Code.TOO_MANY_ROOMS, f"One connection attaches to at most {settings.CONNECTION_MAX_ROOMS} rooms."
            )
        room, hub = await self._find(name, grant)
        start = await self._gateway.starting_points.find(request, hub, grant)
        if hub.is_closed:  # it had no members while we waited for Postgres
            hub = await self._gateway.hub(room)
        if self._is_closed:
            return  # the connection ended meanwhile: a member that enters now would never leave
        self._leave(room.name)
        position = hub.tail.position if start.after is None else start.after
        flags = modes | (Flag.RESUMED if start.resumed else Flag(0))
        flags |= Flag.HAS_BACKLOG if position < hub.tail.position else Flag(0)
        counts_category = (
            category if Flag.SUBSCRIBE in modes and self._gateway.occupancy.subscribers.has_capacity else None
        )
        params = {
            key: value for key, value in (request.params or {}).items() if key != counts.PARAMETER or counts_category
        }
        self._reply(self._attached(room, position, flags, params, start.error))
        self._enter(room, hub, start.after, modes, counts_category)

    async def _find(self, name: str, grant: Grant) -> tuple[RoomRef, Hub]:
        """Return a room and its hub. Makes a room again that was removed a moment ago."""
        maker = maker_of(grant, name)
        room = await self._gateway.directory.get(name, maker)
        try:
            return room, await self._gateway.hub(room)
        except ChatError as error:
            if error.code != Code.NOT_FOUND:
                raise
        room = await self._gateway.directory.get(name, maker)
        return room, await self._gateway.hub(room)

    def detach(self, name: str | None) -> None:
        """Answer DETACH, also for a room that is not attached."""
        self._leave(name or "")
        self._reply(ProtocolMessage(action=Action.DETACHED, channel=name))

    def recheck(self, grant: Grant) -> None:
        """Apply a new token to all rooms: end attachments that it does not allow, and narrow the modes of others."""
        for name, attachment in list(self._rooms.items()):
            allowed = allowed_modes(name, grant)
            if not (Flag.SUBSCRIBE in allowed and grant.capability.allows(name, counts.CAPABILITY)):
                self._unsubscribe_counts(attachment)
            if not (allowed & attachment.modes if attachment.modes else grant.capability.allows_any(name)):
                self._leave(name)
                error = ChatError(Code.OPERATION_NOT_PERMITTED, f"The new token allows nothing on room {name!r}.")
                self._reply(ProtocolMessage(action=Action.ERROR, channel=name, error=ErrorInfo.of(error)))
                continue
            if Flag.SUBSCRIBE in attachment.modes and Flag.SUBSCRIBE not in allowed and attachment.member:
                attachment.hub.leave(attachment.member)
                attachment.member = None
            self._narrow(attachment, attachment.modes & allowed)

    def close(self) -> None:
        """Leave all rooms for good."""
        self._is_closed = True
        for name in list(self._rooms):
            self._leave(name)

    def _enter(self, room: RoomRef, hub: Hub, after: int | None, modes: Flag, counts_category: str | None) -> None:
        member = self._join(room, hub, after, modes) if Flag.SUBSCRIBE in modes else None
        attachment = self._rooms[room.name] = Attachment(room=room, hub=hub, modes=modes, member=member)
        self._gateway.occupancy.counters.enter(room.id, modes)
        if member and counts_category:
            attachment.subscriber = self._gateway.occupancy.subscribers.add(room, member, counts_category)

    def _leave(self, name: str) -> None:
        attachment = self._rooms.pop(name, None)
        if attachment is None:
            return
        if attachment.member is not None:
            attachment.hub.leave(attachment.member)
        self._unsubscribe_counts(attachment)
        self._gateway.occupancy.counters.leave(attachment.room.id, attachment.modes)

    def _narrow(self, attachment: Attachment, modes: Flag) -> None:
        counters = self._gateway.occupancy.counters
        counters.leave(attachment.room.id, attachment.modes)
        attachment.modes = modes
        counters.enter(attachment.room.id, modes)

    def _unsubscribe_counts(self, attachment: Attachment) -> None:
        if attachment.subscriber is not None:
            self._gateway.occupancy.subscribers.remove(attachment.subscriber)
            attachment.subscriber = None

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


def maker_of(grant: Grant, room: str) -> Maker:
    """Return the maker of a room that an ATTACH makes; its number of rooms is bounded unless it may publish there."""
    is_named = grant.client_id not in (None, ANY_CLIENT)
    # With the key: a client id of one key says nothing about who has it under another.
    name = f"key:{grant.key_name}/client:{grant.client_id}" if is_named else f"key:{grant.key_name}"
    limit = ROOMS_MADE_PER_CLIENT if is_named else ROOMS_MADE_PER_KEY
    return Maker(name[:300], None if grant.capability.allows(room, "publish") else limit)


def allowed_modes(room: str, grant: Grant) -> Flag:
    """Return the operations that a grant allows on a room, as mode flags."""
    modes = Flag(0)
    for operation, flags in OPERATION_MODES:
        if grant.capability.allows(room, operation):
            modes |= flags
    return modes


def modes_of(request: ProtocolMessage, room: str, grant: Grant) -> Flag:
    """Return the modes of an ATTACH: those requested (or all), as far as allowed. Raises ChatError 40160."""
    allowed = allowed_modes(room, grant)
    if not allowed and not grant.capability.allows_any(room):
        raise ChatError(
            Code.OPERATION_NOT_PERMITTED, f"The capability of this key or token allows nothing on room {room!r}."
        )
    # Masked as a number: the enum caches every combination that it has seen, and clients may send any.
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
