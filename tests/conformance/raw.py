"""A client without an SDK: what it sends is exactly what is written here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from rooms.protocol.wire import Action
from tests.patience import PATIENCE


class RawClient:
    """One WebSocket with JSON protocol messages."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.received: list[dict[str, Any]] = []

    @classmethod
    @asynccontextmanager
    async def connected(cls, url: str, **query: str) -> AsyncIterator[RawClient]:
        """Open the WebSocket, with these parameters in the query."""
        address = url.replace("http", "ws", 1) + "/?" + urlencode(query)
        async with connect(address, max_size=None, ping_interval=None) as socket:
            yield cls(socket)

    async def send(self, **message: Any) -> None:
        await self.socket.send(json.dumps(message))

    async def expect(self, action: Action) -> dict[str, Any]:
        """Return the next protocol message with this action; others are kept in `received`."""
        async with asyncio.timeout(PATIENCE):
            while True:
                message: dict[str, Any] = json.loads(await self.socket.recv())
                self.received.append(message)
                if message["action"] == action:
                    return message

    async def attach(self, room: str, **more: Any) -> dict[str, Any]:
        await self.send(action=Action.ATTACH, channel=room, **more)
        return await self.expect(Action.ATTACHED)

    async def wait_until_closed(self) -> int | None:
        """Return the code with which the server closed."""
        async with asyncio.timeout(PATIENCE):
            try:
                while True:
                    await self.socket.recv()
            except ConnectionClosed as closed:
                return closed.rcvd.code if closed.rcvd else None
