"""Clients that cost others something if they could."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import psutil
import pytest

from chatsite.swarm.members.cursor import Cursor
from chatsite.swarm.wire.frames import Opcode, frame, handshake, split, split_handshake
from rooms.protocol import serials
from rooms.protocol.wire import Action
from tests.faults import traffic
from tests.instance import Instance
from tests.patience import PATIENCE

DEAF_MEMBERS = 20
ROOM = "busy"
MEGABYTE = 1_048_576

pytestmark = pytest.mark.usefixtures("quiet_clients")


class DeafMember:
    """A member that attaches and then reads nothing until it is asked to."""

    def __init__(self, port: int, key: str) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(("127.0.0.1", port))
        self.socket.sendall(handshake("127.0.0.1", port, f"/?key={key}&v=3"))
        data = b""
        while (rest := split_handshake(data)) is None:
            data += self.socket.recv(4096)
        self.rest = rest
        self.say(action=Action.ATTACH, channel=ROOM)
        self.position = 0
        for message in self.read():
            if message["action"] == Action.ATTACHED:
                self.cursor = Cursor(position_of(message))
                break

    def say(self, **message: object) -> None:
        self.socket.sendall(frame(Opcode.TEXT, json.dumps(message).encode()))

    def read(self) -> Iterator[dict[str, object]]:
        """Yield protocol messages as they come."""
        while True:
            frames, self.rest = split(self.rest)
            for each in frames:
                if each.opcode == Opcode.TEXT:
                    yield json.loads(each.payload)
            received = self.socket.recv(65_536)
            if not received:
                return
            self.rest += received

    def read_until(self, head: int) -> None:
        """Read on until the room's head. Who missed something was told so before it got the next message."""
        for message in self.read():
            if message["action"] == Action.ATTACHED:
                assert message["error"]
                self.cursor.jump(position_of(message))
            elif message["action"] == Action.MESSAGE:
                assert position_of(message) == self.cursor.position + 1
                self.cursor.add(position_of(message))
            if self.cursor.position >= head:
                return
        raise AssertionError("the server closed the connection")


def position_of(message: dict[str, object]) -> int:
    decoded = serials.decode(str(message["channelSerial"]))
    assert decoded is not None
    return decoded[1]


@pytest.fixture
def deaf_members(instance: Instance, key: str) -> Iterator[list[DeafMember]]:
    with ExitStack() as stack:
        members = [DeafMember(instance.port, key) for _ in range(DEAF_MEMBERS)]
        for member in members:
            stack.callback(member.socket.close)
        yield members


def test_members_that_never_read_cost_bounded_memory_and_nobody_else_anything(
    instance: Instance, key: str, deaf_members: list[DeafMember]
) -> None:
    (pid,) = instance.gateways().values()
    before = psutil.Process(pid).memory_info().rss
    # Each deaf member is owed 6 MB: 120 MB if the server queued what they do not read.
    report = traffic.run(instance, key, room=ROOM, members=10, rate=300, seconds=4, size=4600)
    grown = psutil.Process(pid).memory_info().rss - before
    traffic.check(report)
    assert report.refused == 0
    assert grown < 40 * MEGABYTE, f"{grown / MEGABYTE:.1f} MB"

    head = deaf_members[0].cursor.position + report.published
    for member in deaf_members[:3]:
        member.read_until(head)


def test_fifty_members_that_read_nothing_cost_the_process_little_each(instance: Instance, key: str) -> None:
    """The kernel takes little more for each than it has room for, and the room's frames are there once for all."""
    (pid,) = instance.gateways().values()
    with ExitStack() as stack:
        for _ in range(50):
            stack.callback(DeafMember(instance.port, key).socket.close)
        traffic.check(traffic.run(instance, key, room=ROOM, members=1, rate=50, seconds=1, size=4600))
        before = psutil.Process(pid).memory_info().rss
        report = traffic.run(instance, key, room=ROOM, members=1, rate=300, seconds=2, size=4600)
        grown = psutil.Process(pid).memory_info().rss - before
    traffic.check(report)
    # What the room's log itself keeps in memory does not depend on who reads.
    assert grown < 50 * 64 * 1024 + 8 * MEGABYTE, f"{grown / MEGABYTE:.1f} MB"


def test_a_client_that_floods_is_read_no_faster_than_it_is_served(instance: Instance, key: str) -> None:
    """It publishes without reading one acknowledgement; others get theirs at once."""
    (pid,) = instance.gateways().values()
    flood = DeafMember(instance.port, key)
    before = psutil.Process(pid).memory_info().rss
    flood.socket.settimeout(0.5)
    published = 0
    try:
        for published in range(20_000):
            message = {"data": "x" * 1000}
            flood.say(action=Action.MESSAGE, channel="flood", msgSerial=published, messages=[message])
    except TimeoutError:
        pass
    finally:
        traffic.check(traffic.run(instance, key, rate=50, seconds=1))
        flood.socket.close()
    grown = psutil.Process(pid).memory_info().rss - before
    assert grown < 40 * MEGABYTE, f"{grown / MEGABYTE:.1f} MB after {published} messages"
