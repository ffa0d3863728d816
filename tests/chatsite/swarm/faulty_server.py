"""A small room server that can be told to make each mistake that a swarm must see."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from websockets.asyncio.server import Request, Response, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed

from rooms.protocol import serials

EPOCH = "0123456z"
FAULTY = 20  # the serial at which things go wrong
BUSY_TIMES = 3


class Room:
    """A log in memory, and its members in the order in which they came. The first one is treated badly."""

    def __init__(self, name: str, fault: str) -> None:
        self.name = name
        self.fault = fault
        self.log: list[dict[str, Any]] = []
        self.members: dict[ServerConnection, int] = {}
        self.published = 0
        self.held: list[dict[str, Any]] = []
        self.lock = asyncio.Lock()  # who comes back reads the log while nothing is added to it


class FaultyServer:
    """`fault` names its one mistake, which it makes in the room `place` alone."""

    def __init__(self, fault: str, place: str) -> None:
        self.fault = fault
        self.busy = 0
        self.rooms: dict[str, Room] = {}
        self._place = place

    @classmethod
    @asynccontextmanager
    async def running(cls, fault: str, *, place: str = "swarm", **options: Any) -> AsyncIterator[str]:
        """Yield the address of a server with this fault."""
        server = cls(fault, place)
        scheme = "https" if "ssl" in options else "http"
        async with serve(server.serve, "127.0.0.1", 0, process_request=server.admit, **options) as running:
            yield f"{scheme}://127.0.0.1:{next(iter(running.sockets)).getsockname()[1]}"

    async def admit(self, socket: ServerConnection, request: Request) -> Response | None:
        if request.path == "/time":
            return Response(HTTPStatus.NOT_FOUND, "Not Found", Headers())
        if self.fault == "busy" and self.busy < BUSY_TIMES:
            self.busy += 1
            return Response(HTTPStatus.SERVICE_UNAVAILABLE, "Busy", Headers([("Retry-After", "0")]))
        return None

    def room(self, name: str) -> Room:
        if name not in self.rooms:
            self.rooms[name] = Room(name, self.fault if name == self._place else "none")
        return self.rooms[name]

    async def serve(self, socket: ServerConnection) -> None:
        await self.send(socket, action=4, connectionId="c")
        try:
            while True:
                message = json.loads(await socket.recv())
                if "channel" in message:
                    room = self.room(message["channel"])
                    async with room.lock:
                        await self.handle(socket, room, message)
        except ConnectionClosed:
            for room in self.rooms.values():
                room.members.pop(socket, None)

    async def handle(self, socket: ServerConnection, room: Room, message: dict[str, Any]) -> None:
        if message["action"] == 10:
            await self.attach(socket, room, message.get("channelSerial"))
        elif message["action"] == 15:
            await self.publish(socket, room, message)

    async def attach(self, socket: ServerConnection, room: Room, after: str | None) -> None:
        position = int(after.partition("-")[2]) if after else len(room.log)
        if room.fault == "forget members" and after:
            position += 1  # it was cut off before that one, so it is there, however soon the member comes back
        await self.send(socket, action=11, channel=room.name, channelSerial=serials.encode(EPOCH, position))
        room.members[socket] = len(room.members)
        for serial in range(position + 1, len(room.log) + 1):
            await self.deliver(socket, room, serial, room.log[serial - 1])

    async def publish(self, socket: ServerConnection, room: Room, message: dict[str, Any]) -> None:
        content, *others = message["messages"]
        room.published += 1
        due, room.held = [content, *others, *room.held], []
        if room.published == FAULTY:
            match room.fault:
                case "forget":
                    due = []
                case "publish twice":
                    due = [content, content]
                case "overtake":
                    due, room.held = [], [content]
        for each in due:
            room.log.append(each)
            await self.broadcast(room, len(room.log))
        if room.published == FAULTY and room.fault == "leak":
            error = {"code": 42213, "statusCode": 422, "message": "no"}
            await self.send(socket, action=2, msgSerial=message["msgSerial"], count=1, error=error)
            return
        first = max(1, len(room.log) - len(others))
        told = [serials.encode(EPOCH, serial) for serial in range(first, first + len(others) + 1)]
        await self.send(socket, action=1, msgSerial=message["msgSerial"], count=1, res=[{"serials": told}])

    async def broadcast(self, room: Room, serial: int) -> None:
        for member, place in list(room.members.items()):
            if place == 0:
                await self.mistreat(member, room, serial)
            else:
                await self.deliver(member, room, serial, room.log[serial - 1])

    async def mistreat(self, member: ServerConnection, room: Room, serial: int) -> None:
        content = room.log[serial - 1]
        match room.fault:
            case "drop" if serial == FAULTY:
                return
            case "drop the last" if serial == 50:
                return
            case "double" if serial == FAULTY:
                await self.deliver(member, room, serial, content)
            case "swap" if serial == FAULTY:
                return
            case "swap" if serial == FAULTY + 1:
                await self.deliver(member, room, serial, content)
                serial, content = FAULTY, room.log[FAULTY - 1]
            case "diverge" if serial == FAULTY:
                content = room.log[serial - 2]
            case "misdirect" if serial == FAULTY:
                other = next(name for name in self.rooms if name != room.name)
                await self.deliver(member, self.rooms[other], 1, self.rooms[other].log[0])
            case "cut" | "forget members" if serial == FAULTY:
                del room.members[member]
                member.transport.abort()
                return
        await self.deliver(member, room, serial, content)

    async def deliver(self, member: ServerConnection, room: Room, serial: int, content: dict[str, Any]) -> None:
        position = serials.encode(EPOCH, serial)
        try:
            await self.send(member, action=15, channel=room.name, channelSerial=position, messages=[content])
        except ConnectionClosed:
            pass  # it has left; whoever published must not suffer for that

    async def send(self, socket: ServerConnection, **message: Any) -> None:
        await socket.send(json.dumps(message))
