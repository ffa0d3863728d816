"""Handles the protocol messages of one connection, from CONNECTED to its end.

Source: repository ably/specification, features.md (RTN, RTL, CD2). The consumer drives it and owns the socket.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import time
from collections.abc import Callable
from functools import partial

from django.conf import settings
from django.db import InterfaceError, OperationalError

from rooms.access.authentication import authenticate
from rooms.access.grants import ANY_CLIENT, Credentials, Grant
from rooms.connection import connection_keys
from rooms.connection.attachments import Attachments
from rooms.connection.opening import Opening
from rooms.connection.publisher import Publisher
from rooms.errors import ChatError, Code
from rooms.fanout.sockets import ENCODINGS, Socket, send_reply
from rooms.gateway.connections import CONNECTION_MAX_IDLE_SECONDS
from rooms.gateway.gateway import Gateway
from rooms.log.directory import require_name
from rooms.protocol.wire import Action, ConnectionDetails, ErrorInfo, Flag, ProtocolMessage, encode
from rooms.publishing.drafts import drafts_of

logger = logging.getLogger(__name__)

CONNECTION_STATE_SECONDS = 120  # clients learn that a lost connection can be resumed for so long

HEARTBEATS = {
    encoding: encoding.join([encoding.piece(encode(ProtocolMessage(action=Action.HEARTBEAT), encoding.format))])
    for encoding in ENCODINGS.values()
}
REAUTHENTICATE_BEFORE_SECONDS = 30.0  # a client is asked for a new token so long before its token expires


class Session:
    """One connection, from CONNECTED to its end. There are very many, so it has slots, and keeps no credentials.

    Its parts do not refer to it, so that it is freed at its end: the garbage collector may run hours later.
    """

    __slots__ = (
        "_accepts_publishes",
        "_attachments",
        "_close",
        "_encoding",
        "_ended",
        "_expiry",
        "_gateway",
        "_is_publishing",
        "_private",
        "_publisher",
        "_resume_failed",
        "_socket",
        "_wants_heartbeats",
        "connection_id",
        "grant",
        "reply",
    )

    def __init__(
        self,
        gateway: Gateway,
        socket: Socket,
        opening: Opening,
        grant: Grant,
        *,
        close: Callable[[int], None],
    ) -> None:
        self.grant = grant
        self._wants_heartbeats = opening.heartbeats
        self._gateway = gateway
        self._socket = socket
        self._encoding = ENCODINGS[opening.format, socket.framing]
        self._close = close
        resumed = connection_keys.read(opening.resume, grant.client_id)
        self.connection_id, self._private = resumed or (secrets.token_urlsafe(9), secrets.token_urlsafe(6))
        self._resume_failed = opening.resume is not None and resumed is None
        self.reply = partial(send_reply, socket, self._encoding)
        self._publisher = Publisher(gateway.acceptor, self.reply)
        self._attachments = Attachments(
            gateway, socket, self._encoding, connection_id=self.connection_id, echo=opening.echo, reply=self.reply
        )
        self._expiry: asyncio.TimerHandle | None = None
        self._accepts_publishes = True
        self._is_publishing = False  # a publish is on its way to the publisher: its room is looked up, say
        self._ended = False

    # --- Calls of the consumer ------------------------------------------------------------------------------

    def start(self) -> None:
        """Register the connection and send CONNECTED."""
        self._gateway.connections.register(self)
        self._watch_expiry()
        error = ChatError(Code.INVALID_CONNECTION_KEY, "The connection to resume is not known; this is a new one.")
        self._greet(ErrorInfo.of(error) if self._resume_failed else None)
        self._gateway.connections.recheck(self)

    async def handle(self, message: ProtocolMessage) -> None:
        """Handle a protocol message. Errors are answered; the connection goes on unless the protocol ends it."""
        try:
            match message.action:
                case Action.MESSAGE:
                    if self._accepts_publishes:
                        self._is_publishing = True
                        await self._publish(message)
                case Action.ATTACH:
                    await self._attachments.attach(message, self.grant)
                case Action.DETACH:
                    self._attachments.detach(message.channel)
                case Action.HEARTBEAT:
                    self.reply(ProtocolMessage(action=Action.HEARTBEAT, id=message.id))
                case Action.AUTH:
                    await self._reauthenticate(message)
                case Action.CLOSE:
                    self.reply(ProtocolMessage(action=Action.CLOSED))
                    self._finish(1000)
                case Action.PRESENCE | Action.ANNOTATION | Action.OBJECT:
                    error = ChatError(Code.BAD_REQUEST, "This server does not offer that operation yet.")
                    self._publisher.refuse(message.msg_serial or 0, error)
                case _:
                    logger.debug("ignored a protocol message with action %d", message.action)
        except ChatError as error:
            self._reply_error(message, error)
        except (OperationalError, InterfaceError) as error:
            logger.warning("a request waits for Postgres (%s)", type(error).__name__)
            self._reply_try_again(message)
        finally:
            self._is_publishing = False

    def stop(self) -> None:
        """Leave all rooms and stop; the socket is closed or closing."""
        self._ended = True
        if self._expiry is not None:
            self._expiry.cancel()
        self._attachments.close()
        self._publisher.close()
        self._gateway.connections.unregister(self)

    # --- Calls of the gateway -------------------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """See rooms.gateway.connections.Connection."""
        return self._publisher.is_idle and not self._is_publishing

    def keep_alive(self) -> bool:
        """See rooms.gateway.connections.Connection. A client with unsent bytes needs no heartbeat: it gets those."""
        if not self._socket.was_quiet():
            return False
        return self._socket.write(HEARTBEATS[self._encoding]) if self._wants_heartbeats else self._socket.ping()

    def ignore_publishes(self) -> None:
        """See rooms.gateway.connections.Connection."""
        self._accepts_publishes = False

    def ask_for_token(self) -> None:
        """See rooms.gateway.connections.Connection. The client answers with AUTH, or not at all (RTN22)."""
        self.reply(ProtocolMessage(action=Action.AUTH))

    def end(self, error: ChatError) -> None:
        """See rooms.gateway.connections.Connection. After DISCONNECTED a client may come back, with a new token."""
        if not self._ended:
            self.reply(ProtocolMessage(action=Action.DISCONNECTED, error=ErrorInfo.of(error)))
            self._finish(1000)

    # --- The parts of the conversation -------------------------------------------------------------------

    def _greet(self, error: ErrorInfo | None = None) -> None:
        client_id = None if self.grant.client_id == ANY_CLIENT else self.grant.client_id
        key = connection_keys.make(self.connection_id, self._private, self.grant.client_id)
        self.reply(
            ProtocolMessage(
                action=Action.CONNECTED,
                connection_id=self.connection_id,
                connection_key=key,
                error=error,
                connection_details=ConnectionDetails(
                    client_id=client_id or (ANY_CLIENT if self.grant.client_id == ANY_CLIENT else None),
                    connection_key=key,
                    connection_state_ttl=CONNECTION_STATE_SECONDS * 1000,
                    max_frame_size=settings.FRAME_MAX_BYTES,
                    max_inbound_rate=settings.CONNECTION_MAX_UNACKED,
                    max_idle_interval=CONNECTION_MAX_IDLE_SECONDS * 1000,
                    max_message_size=settings.MESSAGE_MAX_BYTES,
                    server_id=self._gateway.server_id,
                ),
            )
        )

    async def _publish(self, message: ProtocolMessage) -> None:
        await self._publisher.wait_for_capacity()
        if self._has_ended():
            return  # no answer would arrive, and the token may be revoked: the client repeats the publish elsewhere
        serial = message.msg_serial or 0
        try:
            require_serial(serial)
            self.grant.require(require_name(message.channel), "publish")  # before the room is made
            room = await self._gateway.directory.get(message.channel)
            if self._has_ended():
                return
            attachment = self._attachments.find(room.name)
            if attachment is not None and Flag.PUBLISH not in attachment.modes:
                raise ChatError(Code.MODE_NOT_ATTACHED, f"Room {room.name!r} was attached without the mode PUBLISH.")
            drafts = drafts_of(
                message.messages or [],
                room,
                self.grant,
                base_id=self._base_id(serial),
                connection_id=self.connection_id,
                origin=self._gateway.channel,
            )
        except ChatError as error:
            self._publisher.refuse(serial, error)
        except (OperationalError, InterfaceError):
            self._publisher.refuse(serial, ChatError(Code.UNAVAILABLE, "The room could not be found; publish again."))
        else:
            self._publisher.publish(serial, drafts)

    def _has_ended(self) -> bool:
        """Return whether `stop` was called. Check it after each await."""
        return self._ended

    def _base_id(self, serial: int) -> str:
        """Return the base id of a publish: the same when the client repeats it, and not to be guessed by others.

        A message whose id is taken already is a repeat. Connection ids are public and serials count up: without
        the mark, others in the room could take the ids of messages that this connection is about to publish.
        """
        mark = hashlib.blake2b(str(serial).encode(), key=self._private.encode(), digest_size=6).hexdigest()
        return f"{self.connection_id}:{serial}-{mark}"

    async def _reauthenticate(self, message: ProtocolMessage) -> None:
        token = message.auth.access_token if message.auth else None
        try:
            # With a token for any client id, the connection keeps its own.
            mine = None if self.grant.client_id == ANY_CLIENT else self.grant.client_id
            grant = await authenticate(Credentials(token=token, client_id=mine))
        except ChatError as error:
            if error.status >= 500:  # not the token's fault: the client comes back with it
                self.end(error)
                return
            self.reply(ProtocolMessage(action=Action.ERROR, error=ErrorInfo.of(error)))
            self._finish(1000)
            return
        if self._has_ended():
            return  # a timer of this token would keep the session in memory for as long as the token is good
        self.grant = grant
        self._attachments.recheck(grant)
        self._watch_expiry()
        self._greet()
        self._gateway.connections.recheck(self)

    def _watch_expiry(self) -> None:
        """Set the timers that ask for a new token before this one expires, and end the connection if none comes."""
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        if self.grant.expires_at is not None:
            left = self.grant.expires_at - time.time()
            loop = asyncio.get_running_loop()
            if left > 2 * REAUTHENTICATE_BEFORE_SECONDS:
                self._expiry = loop.call_later(left - REAUTHENTICATE_BEFORE_SECONDS, self._ask_before_expiry)
            else:
                self._expiry = loop.call_later(max(left, 0), self._expire)

    def _ask_before_expiry(self) -> None:
        # The timer first: the request may end a connection that reads nothing, which cancels the timer.
        self._expiry = asyncio.get_running_loop().call_later(REAUTHENTICATE_BEFORE_SECONDS, self._expire)
        self.ask_for_token()

    def _expire(self) -> None:
        self.end(ChatError(Code.TOKEN_EXPIRED, "The token of this connection has expired; get a new one."))

    def _reply_error(self, message: ProtocolMessage, error: ChatError) -> None:
        """Send an error that names the room of the request, if it has one."""
        self.reply(ProtocolMessage(action=Action.ERROR, channel=message.channel, error=ErrorInfo.of(error)))

    def _reply_try_again(self, message: ProtocolMessage) -> None:
        """Answer a request that failed for now. Not with ERROR: no client tries again after it (RTL14, RTN15i)."""
        error = ChatError(Code.UNAVAILABLE, "The server cannot do this right now; try again.")
        if message.action == Action.ATTACH:
            self.reply(ProtocolMessage(action=Action.DETACHED, channel=message.channel, error=ErrorInfo.of(error)))
        else:
            self.end(error)

    def _finish(self, code: int) -> None:
        self.stop()
        self._close(code)


def require_serial(serial: int) -> None:
    """Raise ChatError 40000 for a msgSerial out of range."""
    if not 0 <= serial < 2**63:
        raise ChatError(Code.BAD_REQUEST, "A msgSerial counts publishes from 0.")
