from __future__ import annotations

import socket
import time

from chatsite.swarm.wire.stream import Owner, Poller, Stream
from tests.chatsite.swarm.test_plan import plan


class Recorder(Owner):
    """Records why its connection ended."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def ended(self, reason: str, retry_after: float | None) -> None:
        self.reasons.append(reason)


class Bytes(Stream):
    """A connection that keeps what arrives."""

    __slots__ = ("received",)

    def got(self, data: bytes) -> None:
        self.received = data


def test_an_end_that_arrives_together_with_the_last_bytes_is_noticed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        poller, owner = Poller(plan(url=f"http://127.0.0.1:{server.getsockname()[1]}"), []), Recorder()
        stream = Bytes(poller, owner, b"")
        peer, _ = server.accept()
        poller.poll(1)
        peer.send(b"last")
        peer.close()
        deadline = time.monotonic() + 5
        while not owner.reasons and time.monotonic() < deadline:
            poller.poll(0.1)
        poller.close()
    assert (stream.received, owner.reasons) == (b"last", ["the server closed the connection"])
