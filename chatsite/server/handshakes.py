"""Connections wait here for a whole request head, and are handed over to a WebSocket or to HTTP then.

A head has one deadline from the first byte on, or from the accepting if none comes: whoever drips it byte by byte is
dropped like whoever says nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from chatsite.server.transport import Transport
from chatsite.server.upgrade import HEAD_END, HEAD_MAX_BYTES, Upgrade, read_upgrade

HANDSHAKES_MAX_PER_GATEWAY = 500  # connections without a whole request; late ones are dropped for new ones

HEADER_SECONDS = 15.0
CROWDED_SECONDS = 0.5  # where all places are taken, a newcomer gets the place of one that has waited for so long
RETRY_SECONDS = (1, 5)  # when to come back to a full server: at random in between, so that not all come at once
FULL_BODY = (
    b'{"error":{"code":50004,"statusCode":503,"message":"This server holds as many connections as it may; try again '
    b'in a moment.","href":"https://help.ably.io/error/50004"}}'
)
FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Type: application/json\r\n"
    b"X-Ably-Errorcode: 50004\r\nRetry-After: %d\r\nContent-Length: %d\r\n\r\n%b"
)

OpenWebSocket = Callable[[Transport, Upgrade, bytes], None]
OpenHttp = Callable[[Transport, bytes], None]


class Handshakes:
    """The connections of a process that have not shown a whole request yet, oldest first."""

    def __init__(self, open_websocket: OpenWebSocket, open_http: OpenHttp, is_full: Callable[[], bool]) -> None:
        self.open_websocket = open_websocket
        self.open_http = open_http
        self.is_full = is_full
        self.refused = 0  # by 503, for the metrics
        self.dropped = 0  # before they had shown a whole head
        self._waiting: dict[Handshake, float] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def make(self, now: float) -> Handshake:
        """Return the protocol of a connection that was just accepted."""
        handshake = Handshake(self)
        self._waiting[handshake] = now
        return handshake

    def forget(self, handshake: Handshake) -> None:
        """Take out a connection that was handed over, or is gone."""
        self._waiting.pop(handshake, None)

    def make_room(self, now: float) -> bool:
        """Return whether one more connection may wait. Drops the oldest one for it if that is late."""
        if len(self._waiting) < HANDSHAKES_MAX_PER_GATEWAY:
            return True
        return self._drop_oldest(now - CROWDED_SECONDS)

    def drop_late(self, now: float) -> None:
        """Drop connections that have shown no whole head within HEADER_SECONDS."""
        while self._drop_oldest(now - HEADER_SECONDS):
            pass

    def _drop_oldest(self, opened_before: float) -> bool:
        handshake = next(iter(self._waiting), None)
        if handshake is None or self._waiting[handshake] > opened_before:
            return False
        self.forget(handshake)
        self.dropped += 1
        handshake.drop()
        return True


class Handshake:
    """The first protocol of a connection (Twisted's interface): collects the request head."""

    __slots__ = ("_handshakes", "_head", "_transport")

    def __init__(self, handshakes: Handshakes) -> None:
        self._handshakes = handshakes
        self._head = b""
        self._transport: Transport | None = None

    def makeConnection(self, transport: Transport) -> None:
        """Take the connection."""
        self._transport = transport

    def dataReceived(self, data: bytes) -> None:
        """Collect the head, and hand the connection over once it is whole."""
        if self._head:
            data = self._head + data
        end = data.find(HEAD_END)
        if end < 0 and len(data) <= HEAD_MAX_BYTES:
            self._head = data
            return
        self._handshakes.forget(self)
        transport, self._transport = self._transport, None
        if transport is None:
            return
        upgrade = read_upgrade(data[:end]) if 0 < end <= HEAD_MAX_BYTES else None
        if upgrade is None:
            self._handshakes.open_http(transport, data)
        elif self._handshakes.is_full():
            self._refuse(transport)
        else:
            self._handshakes.open_websocket(transport, upgrade, data[end + len(HEAD_END) :])

    def connectionLost(self, reason: Any) -> None:
        """Forget the connection: the peer went before it was served."""
        self._handshakes.forget(self)
        self._transport = None

    def drop(self) -> None:
        """End a connection that is late."""
        if self._transport is not None:
            self._transport.abortConnection()

    def _refuse(self, transport: Transport) -> None:
        self._handshakes.refused += 1
        transport.write(FULL % (random.randint(*RETRY_SECONDS), len(FULL_BODY), FULL_BODY))
        transport.loseConnection()
