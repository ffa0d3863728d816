"""Writing past autobahn: a connection that its peer has reset is over at once, and costs its room nothing."""

from __future__ import annotations

import asyncio
import socket
import struct
from itertools import count
from typing import Any

from msgspec.structs import replace

from chatsite.server.broadcast import BroadcastSocket
from chatsite.server.transport import Transport
from rooms.fanout.hub import Member
from rooms.fanout.sockets import ENCODINGS
from rooms.log.entries import Entry
from rooms.protocol.wire import Format
from tests.patience import PATIENCE
from tests.rooms.fanout.test_hub import join, make_hub, settle
from tests.rooms.fanout.test_tail import entry

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends a reset


class Protocol:
    """Hears of the end."""

    def connectionLost(self, reason: Any) -> None:
        """Twisted's interface."""


def reset_socket() -> BroadcastSocket:
    """Return a socket whose peer has just reset the connection, which the loop has not noticed yet."""
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_connection(listening.getsockname()) as peer:
        accepted, address = listening.accept()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    loop = asyncio.get_running_loop()
    return BroadcastSocket(Transport(accepted, address, Protocol(), lambda connection: None, loop), {})


async def test_a_reset_connection_is_never_writable_again() -> None:
    written = reset_socket()
    called: list[bool] = []
    assert not written.write(b"x")
    written.on_writable(lambda: called.append(True))
    assert not written.write(b"x")
    assert not called


async def test_the_others_of_a_room_get_everything_when_some_have_just_been_reset() -> None:
    hub = make_hub()
    first, _ = join(hub, connection_id="first")
    for number in range(3):
        gone = reset_socket()
        hub.join(
            Member(
                socket=gone,
                encoding=ENCODINGS[Format.JSON, gone.framing],
                connection_id=f"reset {number}",
                echo=True,
                discontinue=lambda position: None,
            ),
            after=None,
        )
    last, _ = join(hub, connection_id="last")
    for serial in (1, 2):
        hub.receive([entry(serial)])
        await settle()

    assert first.got == last.got == [1, 2]
    assert hub.lagging == 3


def said(serial: int, text: str) -> Entry:
    one = entry(serial, size=len(text))
    return replace(one, wire=replace(one.wire, data=text))


def slow_socket() -> tuple[BroadcastSocket, socket.socket]:
    """Return a socket whose kernel buffers are small, and its peer."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        peer = socket.socket()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.connect(listening.getsockname())
        accepted, address = listening.accept()
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    peer.setblocking(False)
    loop = asyncio.get_running_loop()
    return BroadcastSocket(Transport(accepted, address, Protocol(), lambda connection: None, loop), {}), peer


async def test_a_quiet_room_is_heard_on_a_slow_socket_while_a_busy_one_goes_on() -> None:
    written, peer = slow_socket()
    busy, quiet = make_hub(memory_bytes=10**7), make_hub()
    for hub in (busy, quiet):
        hub.join(
            Member(
                socket=written,
                encoding=ENCODINGS[Format.JSON, written.framing],
                connection_id="me",
                echo=True,
                discontinue=lambda position: None,
            ),
            after=None,
        )
    serials = count(1)
    try:
        busy.receive([said(next(serials), "busy " * 1_000) for _ in range(40)])
        await settle()
        quiet.receive([said(1, "a quiet word")])
        got = b""
        while b"a quiet word" not in got and len(got) < 1_000_000:
            busy.receive([said(next(serials), "busy " * 1_000) for _ in range(4)])
            got += await asyncio.wait_for(asyncio.get_running_loop().sock_recv(peer, 16_384), PATIENCE)
    finally:
        peer.close()

    assert b"a quiet word" in got
    assert len(got) < 500_000
    assert busy.lagging == 1
