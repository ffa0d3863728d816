"""The publishers of a run: they publish at a steady rate over the wire and keep what was acknowledged."""

from __future__ import annotations

import random
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from chatsite.swarm import nchan, realtime
from chatsite.swarm.connection import Connection
from chatsite.swarm.findings import Sent, Token
from chatsite.swarm.http_stream import HttpStream
from chatsite.swarm.latency import STEPS_PER_SECOND, Latency
from chatsite.swarm.messages import Batch, Incoming, Item, Reader
from chatsite.swarm.plan import Plan, Protocol
from chatsite.swarm.responses import Response
from chatsite.swarm.stream import Poller, Stream
from chatsite.swarm.tls import context_for
from rooms.protocol.wire import Action

RETURN_SECONDS = 0.2
PROCESS_PLACE = 200  # of publishing processes among the source addresses, after those of members
FOR_GOOD = range(40000, 50000)  # what is refused with 5xxxx may have happened all the same


@dataclass(kw_only=True)
class Published:
    """What became of the messages of one process. Sent to the conductor. Counts are messages, latencies publishes."""

    published: int = 0
    acknowledged: list[Sent] = field(default_factory=list)
    refused: int = 0
    rejected: list[Sent] = field(default_factory=list)  # those refused for good: no other answer may follow
    reconnects: int = 0
    heads: dict[int, int] = field(default_factory=dict)  # the highest serial of each room that was acknowledged
    accept: Latency = field(default_factory=Latency)  # from publish to ACK
    accept_by_second: dict[int, Latency] = field(default_factory=dict)
    behind_seconds: float = 0.0  # how late a message was sent at worst, through this process's own fault
    problems: Counter[str] = field(default_factory=Counter)
    cpu_seconds: float = 0.0  # that the process used since publishing began


@dataclass(kw_only=True)
class Publish:
    """One publish on its way."""

    room: int
    tokens: Sequence[Token]
    sent_at: float
    msg_serial: int = 0


class Publisher:
    """One connection that publishes, after a cut again what was not acknowledged. Subclasses speak the protocols."""

    def __init__(self, place: int, office: Publishers) -> None:
        self.office = office
        self.is_connected = False
        self.unacknowledged: deque[Publish] = deque()
        self._place = place
        self._rooms = office.plan.rooms_of(place)
        self._count = 0

    @property
    def waiting(self) -> int:
        """How many messages are on their way."""
        return len(self.unacknowledged) * self.office.plan.batch

    @property
    def client_id(self) -> str:
        """The name of this publisher, in this run alone."""
        return f"{self.office.plan.run}-{self._place}"

    def open(self) -> None:
        """Connect. Raises OSError where this machine has no room for another connection."""
        raise NotImplementedError

    def transmit(self, publish: Publish) -> None:
        """Send a publish over the connection, which is open."""
        raise NotImplementedError

    def publish(self, now: float) -> None:
        """Publish the next message or messages; while cut off, as soon as there is a connection again."""
        batch, number = self.office.plan.batch, self._count
        tokens = [Token(self._place, number * batch + place) for place in range(batch)]
        publish = Publish(room=self._rooms[number % len(self._rooms)], tokens=tokens, sent_at=now)
        self._count += 1
        self.unacknowledged.append(publish)
        if self.is_connected:
            self.transmit(publish)

    def connected(self) -> None:
        """There is a connection: send what waits for one."""
        self.is_connected = True
        for publish in self.unacknowledged:
            self.transmit(publish)

    def ended(self, reason: str, retry_after: float | None = None) -> None:
        """See Listener."""
        result = self.office.result
        result.problems[reason] += 1
        result.reconnects += self.is_connected
        self.is_connected = False
        self.office.come_back(self, retry_after or 0.0)

    def acknowledged(self, publish: Publish, positions: Sequence[int]) -> None:
        """A publish is durable; some of its messages are visible, at these serials."""
        result, office = self.office.result, self.office
        took = int((time.monotonic() - publish.sent_at) * STEPS_PER_SECOND)
        result.acknowledged.extend((publish.room, token) for token in publish.tokens)
        result.accept.add_steps(took)
        second = int(publish.sent_at - office.started)
        result.accept_by_second.setdefault(second, Latency()).add_steps(took)
        result.heads[publish.room] = max(result.heads.get(publish.room, 0), *positions, 0)

    def refused(self, publish: Publish, code: int, reason: str) -> None:
        """The server does not take a publish."""
        result = self.office.result
        result.refused += len(publish.tokens)
        result.problems[reason] += 1
        if code in FOR_GOOD:
            result.rejected.extend((publish.room, token) for token in publish.tokens)


class RealtimePublisher(Publisher):
    """Publishes by this project's protocol. Ids make publishing again harmless."""

    def __init__(self, place: int, office: Publishers) -> None:
        super().__init__(place, office)
        self._connection: Connection | None = None
        self._next_serial = 0

    def open(self) -> None:
        """See Publisher."""
        path = realtime.path_of(self.office.plan, client_id=self.client_id)
        self._connection = Connection(self.office.poller, self.office.reader, self, path)

    def opened(self) -> None:
        """See Listener: the conversation begins with CONNECTED."""

    def received_run(self, batch: Batch) -> bool:
        """See Listener: a publisher attaches to nothing."""
        return False

    def received(self, items: Sequence[Item]) -> None:
        """See Listener."""
        for item in items:
            if not isinstance(item, Incoming):
                continue
            if item.action == Action.CONNECTED and not self.is_connected:
                self._next_serial = 0
                self.connected()
            elif item.action in (Action.ACK, Action.NACK):
                self._answered(item)
            elif item.action in (Action.ERROR, Action.DISCONNECTED) and item.error is not None:
                self.office.result.problems[f"{item.error.code} {item.error.message}"] += 1

    def transmit(self, publish: Publish) -> None:
        """See Publisher."""
        assert self._connection is not None
        plan, publish.msg_serial = self.office.plan, self._next_serial
        self._next_serial += 1
        room = plan.room_name(publish.room)
        frame = self.office.writer.publish(
            room, publish.msg_serial, publish.tokens, sent_at=publish.sent_at, size=plan.size
        )
        self._connection.send(frame)

    def _answered(self, answer: Incoming) -> None:
        for place in range(answer.count):
            if not self.unacknowledged or self.unacknowledged[0].msg_serial != answer.msg_serial + place:
                # Answers come in the order of publishing (RTN7a); others would be counted for another message.
                self.office.result.problems["an answer to something that was not published, or out of order"] += 1
                return
            publish = self.unacknowledged.popleft()
            if answer.action == Action.NACK:
                error = answer.error
                self.refused(publish, error.code if error else 0, f"{error.code} {error.message}" if error else "?")
                continue
            serials = answer.res[place].get("serials", []) if place < len(answer.res) else []
            self.acknowledged(publish, [realtime.position_of(serial) for serial in serials if serial is not None])


class NchanPublisher(Publisher):
    """Publishes by pipelined POSTs on one connection. A POST cannot be repeated: what a cut leaves open is refused."""

    def __init__(self, place: int, office: Publishers) -> None:
        super().__init__(place, office)
        self._stream: Stream | None = None

    def open(self) -> None:
        """See Publisher: POSTs need no conversation before."""
        while self.unacknowledged:
            self.refused(self.unacknowledged.popleft(), 0, "a POST without an answer")
        self._stream = HttpStream(self.office.poller, self)
        self.connected()

    def transmit(self, publish: Publish) -> None:
        """See Publisher."""
        assert self._stream is not None
        self._stream.send(nchan.post(self.office.plan, publish.tokens[0], sent_at=publish.sent_at))

    def answered(self, response: Response) -> None:
        """Take the answer to the oldest POST."""
        publish = self.unacknowledged.popleft()
        if response.status < 300:
            self.acknowledged(publish, [nchan.position_of(self.office.plan, publish.tokens[0])[1]])
        else:
            self.refused(publish, response.status * 100, f"{response.status} {response.reason}")


class Publishers:
    """The publishers of one process: `places` are their numbers among all."""

    def __init__(self, plan: Plan, places: range) -> None:
        self.plan = plan
        self.writer = realtime.Writer(plan.run, plan.format)
        self.reader = Reader(realtime.Decoder(plan))
        self.result = Published()
        self.started = 0.0
        sources = plan.sources(PROCESS_PLACE + places.start)
        self.poller = Poller(plan.address, sources=sources, tls=context_for(plan))
        kind = NchanPublisher if plan.protocol is Protocol.NCHAN else RealtimePublisher
        self._places = places
        self._publishers: list[Publisher] = [kind(place, self) for place in places]
        self._returning: list[tuple[float, Publisher]] = [(0.0, each) for each in self._publishers]
        self._next = 0

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
        if self._returning:
            due = [publisher for moment, publisher in self._returning if moment <= now]
            self._returning = [(moment, publisher) for moment, publisher in self._returning if moment > now]
            for publisher in due:
                self._open(publisher)
        self.poller.poll(seconds)

    def publish_due(self) -> float | None:
        """Publish what is due by now, and return the seconds until the next publish is; None after the last."""
        now, result = time.monotonic(), self.result
        while (moment := self._next_moment()) is not None and moment <= now:
            self._publishers[self._next % len(self._publishers)].publish(time.monotonic())
            self._next += 1
            result.published += self.plan.batch
            result.behind_seconds = max(result.behind_seconds, now - moment)
        return None if moment is None else max(0.0, moment - time.monotonic())

    def come_back(self, publisher: Publisher, retry_after: float) -> None:
        """Connect a publisher again in a moment."""
        pause = retry_after + RETURN_SECONDS * (0.5 + random.random())
        self._returning.append((time.monotonic() + pause, publisher))

    def _next_moment(self) -> float | None:
        """Return when this process publishes next. All processes together publish in turn, at even distances."""
        turn, place = divmod(self._next, len(self._publishers))
        number = turn * self.plan.publishers + self._places[place]
        if number >= self.plan.publishes:
            return None
        return self.started + number * self.plan.batch / self.plan.rate

    def _open(self, publisher: Publisher) -> None:
        try:
            publisher.open()
        except OSError as error:
            publisher.ended(error.strerror or str(error))
