"""As much of nginx with nchan as a swarm asks of it, with a fault if wanted."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit

from rooms.fanout.sockets import frame

FAULTY = 10


class FakeNchan:
    """Plain frames for members, 202 for POSTs. `fault` befalls the first member of the room swarm:1."""

    def __init__(self, fault: str) -> None:
        self.fault = fault
        self.members: defaultdict[str, list[asyncio.StreamWriter]] = defaultdict(list)
        self.count: defaultdict[str, int] = defaultdict(int)
        self.held = b""

    @classmethod
    @asynccontextmanager
    async def running(cls, fault: str) -> AsyncIterator[str]:
        """Yield the address of a peer with this fault."""
        server = await asyncio.start_server(cls(fault).serve, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                address = urlsplit(head.split(" ")[1])
                room = parse_qs(address.query)["id"][0]
                if address.path == "/sub":
                    writer.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
                    self.members[room].append(writer)
                    await reader.read()
                    return
                size = int(head.lower().partition("content-length:")[2].split("\r\n")[0])
                self.publish(room, await reader.readexactly(size))
                writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 6\r\n\r\nqueued")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def publish(self, room: str, data: bytes) -> None:
        self.count[room] += 1
        sent = frame(data, binary=False)
        for place, member in enumerate(self.members[room]):
            is_faulty = place == 0 and room == "swarm:1" and self.count[room] == FAULTY
            if is_faulty and self.fault == "swap":
                self.held = sent
            elif not is_faulty or self.fault == "none":
                member.write(sent)
                if place == 0 and room == "swarm:1":
                    member.write(self.held)
                    self.held = b""
