"""A small room server that can be told to make each mistake that a swarm must see."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from rooms import serials

EPOCH = "0123456z"
FAULTY = 20  # the serial at which things go wrong


class FaultyServer:
    """Keeps one room's log in memory; `fault` names its one mistake."""

    def __init__(self, fault: str) -> None:
        self.fault = fault
        self.log: list[dict[str, Any]] = []
        self.members: dict[ServerConnection, int] = {}
        self.published = 0
        self.held: list[dict[str, Any]] = []

    @classmethod
    @asynccontextmanager
    async def running(cls, fault: str) -> AsyncIterator[str]:
        """Yield the address of a server with this fault."""
        async with serve(cls(fault).serve, "127.0.0.1", 0) as server:
            yield f"http://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"

    async def serve(self, socket: ServerConnection) -> None:
        await self.send(socket, action=4, connectionId="c")
        try:
            while True:
                message = json.loads(await socket.recv())
                if message["action"] == 10:
                    await self.attach(socket, message.get("channelSerial"))
                elif message["action"] == 15:
                    await self.publish(socket, message)
        except ConnectionClosed:
            self.members.pop(socket, None)

    async def attach(self, socket: ServerConnection, after: str | None) -> None:
        position = int(after.partition("-")[2]) if after else len(self.log)
        await self.send(socket, action=11, channelSerial=serials.encode(EPOCH, position))
        self.members[socket] = len(self.members)
        for serial in range(position + 1, len(self.log) + 1):
            await self.deliver(socket, serial, self.log[serial - 1])

    async def publish(self, socket: ServerConnection, message: dict[str, Any]) -> None:
        content = message["messages"][0]
        self.published += 1
        due, self.held = [content, *self.held], []
        if self.published == FAULTY:
            match self.fault:
                case "forget":
                    due = []
                case "publish twice":
                    due = [content, content]
                case "overtake":
                    due, self.held = [], [content]
        for each in due:
            self.log.append(each)
            await self.broadcast(len(self.log))
        if self.published == FAULTY and self.fault == "leak":
            error = {"code": 42213, "statusCode": 422, "message": "no"}
            await self.send(socket, action=2, msgSerial=message["msgSerial"], count=1, error=error)
            return
        serial = serials.encode(EPOCH, max(1, len(self.log)))
        await self.send(socket, action=1, msgSerial=message["msgSerial"], count=1, res=[{"serials": [serial]}])

    async def broadcast(self, serial: int) -> None:
        for member, place in list(self.members.items()):
            if place == 0:
                await self.mistreat(member, serial)
            else:
                await self.deliver(member, serial, self.log[serial - 1])

    async def mistreat(self, member: ServerConnection, serial: int) -> None:
        content = self.log[serial - 1]
        match self.fault:
            case "drop" if serial == FAULTY:
                return
            case "drop the last" if serial == 50:
                return
            case "double" if serial == FAULTY:
                await self.deliver(member, serial, content)
            case "swap" if serial == FAULTY:
                return
            case "swap" if serial == FAULTY + 1:
                await self.deliver(member, serial, content)
                serial, content = FAULTY, self.log[FAULTY - 1]
            case "diverge" if serial == FAULTY:
                content = self.log[serial - 2]
            case "cut" if serial == FAULTY:
                del self.members[member]
                member.transport.abort()
                return
        await self.deliver(member, serial, content)

    async def deliver(self, member: ServerConnection, serial: int, content: dict[str, Any]) -> None:
        await self.send(member, action=15, channelSerial=serials.encode(EPOCH, serial), messages=[content])

    async def send(self, socket: ServerConnection, **message: Any) -> None:
        await socket.send(json.dumps(message))
