"""The publishers of a run: they publish at a steady rate over the wire and keep what was acknowledged."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from chatsite.swarm.connection import Connection, Poller
from chatsite.swarm.findings import Token
from chatsite.swarm.frames import Frame
from chatsite.swarm.latency import STEPS_PER_SECOND
from chatsite.swarm.messages import Arrival, Batch, Incoming, Reader, Writer, position_of
from chatsite.swarm.plan import Plan
from rooms.wire import Action

RETURN_SECONDS = 0.1
FOR_GOOD = range(40000, 50000)  # what is refused with 5xxxx may have happened all the same


@dataclass(kw_only=True)
class Published:
    """What became of the messages of a run. Sent to the conductor."""

    published: int = 0
    acknowledged: list[Token] = field(default_factory=list)
    refused: int = 0
    rejected: list[Token] = field(default_factory=list)  # those refused for good: no other answer may follow
    reconnects: int = 0
    head: int = 0  # the highest serial that was acknowledged
    latency: Counter[int] = field(default_factory=Counter)  # from publish to ACK
    problems: Counter[str] = field(default_factory=Counter)


@dataclass(kw_only=True)
class Unacknowledged:
    """A message on its way."""

    msg_serial: int
    token: Token
    sent_at: float


class Publisher:
    """One connection that publishes. After a cut it publishes again what was not acknowledged, with the same ids."""

    def __init__(self, place: int, office: Publishers) -> None:
        self._place = place
        self._office = office
        self._next_number = 0
        self._next_serial = 0
        self._unacknowledged: deque[Unacknowledged] = deque()
        self._connection: Connection | None = None
        self.is_connected = False

    @property
    def waiting(self) -> int:
        """How many messages are on their way."""
        return len(self._unacknowledged)

    def open(self) -> None:
        """Connect."""
        office = self._office
        path = office.plan.path(client_id=f"{office.plan.run}-{self._place}")
        self._connection = Connection(office.poller, self, path)

    def publish(self, now: float) -> None:
        """Publish the next message; while cut off, as soon as there is a connection again."""
        token = Token(self._place, self._next_number)
        self._next_number += 1
        message = Unacknowledged(msg_serial=0, token=token, sent_at=now)
        self._unacknowledged.append(message)
        if self.is_connected:
            self._send(message)

    def received_run(self, batch: Batch) -> bool:
        """See Listener: a publisher attaches to nothing."""
        return False

    def received(self, items: Sequence[Arrival | Incoming | Frame]) -> None:
        """See Listener."""
        for item in items:
            if not isinstance(item, Incoming):
                continue
            if item.action == Action.CONNECTED and not self.is_connected:
                self._connected()
            elif item.action in (Action.ACK, Action.NACK):
                self._answered(item)
            elif item.action in (Action.ERROR, Action.DISCONNECTED) and item.error is not None:
                self._office.result.problems[f"{item.error.code} {item.error.message}"] += 1

    def ended(self, reason: str) -> None:
        """See Listener."""
        self._office.result.problems[reason] += 1
        self._office.result.reconnects += self.is_connected
        self.is_connected = False
        self._office.come_back(self)

    def _connected(self) -> None:
        self.is_connected = True
        self._next_serial = 0
        for message in self._unacknowledged:
            self._send(message)

    def _send(self, message: Unacknowledged) -> None:
        assert self._connection is not None
        plan, message.msg_serial = self._office.plan, self._next_serial
        self._next_serial += 1
        self._connection.send(
            self._office.writer.publish(
                plan.room, message.msg_serial, message.token, sent_at=message.sent_at, size=plan.size
            )
        )

    def _answered(self, answer: Incoming) -> None:
        now, result = time.monotonic(), self._office.result
        for place in range(answer.count):
            message = self._unacknowledged.popleft()
            # Answers come in the order of publishing (RTN7a); anything else would be counted for another message.
            assert message.msg_serial == answer.msg_serial + place
            if answer.action == Action.NACK:
                self._refused(message, answer)
                continue
            result.acknowledged.append(message.token)
            result.latency[int((now - message.sent_at) * STEPS_PER_SECOND)] += 1
            for serial in answer.res[place].get("serials", []) if place < len(answer.res) else []:
                if serial is not None:
                    result.head = max(result.head, position_of(serial))

    def _refused(self, message: Unacknowledged, answer: Incoming) -> None:
        result, error = self._office.result, answer.error
        result.refused += 1
        result.problems[f"{error.code} {error.message}" if error else "refused"] += 1
        if error is not None and error.code in FOR_GOOD:
            result.rejected.append(message.token)


class Publishers:
    """All publishers of a run, in one process."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.writer = Writer(plan.run, plan.format)
        self.result = Published()
        self.poller = Poller(plan.address, Reader(plan.run, plan.format), source=plan.source(-1))
        self._publishers = [Publisher(place, self) for place in range(plan.publishers)]
        self._returning: deque[tuple[float, Publisher]] = deque((0.0, each) for each in self._publishers)

    @property
    def connected(self) -> int:
        """How many publishers are connected."""
        return sum(publisher.is_connected for publisher in self._publishers)

    @property
    def waiting(self) -> int:
        """How many messages are not answered yet."""
        return sum(publisher.waiting for publisher in self._publishers)

    def step(self, seconds: float) -> None:
        """Connect who is not, and handle what is ready."""
        now = time.monotonic()
        while self._returning and self._returning[0][0] <= now:
            self._returning.popleft()[1].open()
        self.poller.poll(seconds)

    def publish_due(self, started: float) -> float | None:
        """Publish what is due by now, and return the seconds until the next message is; None after the last."""
        now, plan, result = time.monotonic(), self.plan, self.result
        due = min(plan.total, int((now - started) * plan.rate) + 1)
        while result.published < due:
            self._publishers[result.published % plan.publishers].publish(time.monotonic())
            result.published += 1
        if result.published >= plan.total:
            return None
        return max(0.0, started + result.published / plan.rate - time.monotonic())

    def come_back(self, publisher: Publisher) -> None:
        """Connect a publisher again in a moment."""
        self._returning.append((time.monotonic() + RETURN_SECONDS, publisher))
