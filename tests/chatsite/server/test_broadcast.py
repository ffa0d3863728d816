"""Writing past autobahn: a connection that its peer has reset is over at once, and costs its room nothing."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

from chatsite.server.broadcast import BroadcastSocket
from chatsite.server.transport import Connection
from rooms.fanout.hub import Member
from rooms.fanout.sockets import ENCODINGS
from rooms.protocol.wire import Format
from tests.rooms.test_hub import join, make_hub, settle
from tests.rooms.test_log import entry

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
    return BroadcastSocket(Connection(accepted, address, Protocol(), lambda connection: None, loop), {})


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
