"""The socket on nothing but ASGI's `send`: those that wait to write take turns."""

from __future__ import annotations

import asyncio
from typing import Any

from rooms.fanout.sockets import PlainSocket
from tests.patience import PATIENCE


async def test_a_writer_that_always_has_more_lets_the_others_write_too() -> None:
    sent: list[str] = []
    done = asyncio.Event()

    async def send(message: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        sent.append(message["text"])
        if len(sent) == 20 or message["text"] == "quiet":
            done.set()

    socket = PlainSocket(send, binary=False, max_unsent_bytes=1_000)

    def write_busily() -> None:
        while socket.write((b"busy",)):
            pass
        socket.on_writable(write_busily)

    def write_once() -> None:
        if not socket.write((b"quiet",)):
            socket.on_writable(write_once)

    write_busily()
    write_once()
    await asyncio.wait_for(done.wait(), PATIENCE)
    socket.close()

    assert sent[:3] == ["busy", "busy", "quiet"]
