"""The publishers of a run: they publish at a steady rate over the wire and record the answers."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Sequence

import msgspec

from chatsite.swarm.orders import Progress
from chatsite.swarm.plan import Plan, Protocol
from chatsite.swarm.results.latency import STEPS_PER_SECOND, Latency
from chatsite.swarm.results.tally import Published, Token
from chatsite.swarm.wire import nchan, realtime
from chatsite.swarm.wire.group import Group
from chatsite.swarm.wire.http_stream import HttpStream
from chatsite.swarm.wire.messages import Incoming, Item
from chatsite.swarm.wire.responses import Response
from chatsite.swarm.wire.stream import Stream
from chatsite.swarm.wire.websocket import Listener, WebSocket
from rooms.protocol.wire import Action

RETURN_SECONDS = 0.2
PROCESS_PLACE = 200  # of publishing processes among the source addresses, after those of members
FOR_GOOD = range(40000, 50000)  # a message refused with 5xxxx may have been published all the same


class Publish(msgspec.Struct, kw_only=True):
    """One publish on its way."""

    room: int
    tokens: Sequence[Token]
    sent_at: float
    msg_serial: int = 0


class Publisher(Listener):
    """One connection that publishes, after a cut again what was not acknowledged. Subclasses speak the protocols."""

    def __init__(self, place: int, publishers: Publishers) -> None:
        self.is_connected = False
        self.unacknowledged: deque[Publish] = deque()
        self._all = publishers
        self._plan = publishers.plan
        self._place = place
        self._rooms = publishers.plan.rooms_of(place)
        self._stream: Stream | None = None
        self._count = 0

    def transmit(self, publish: Publish, stream: Stream) -> None:
        """Send a publish over the connection, which is open."""
        raise NotImplementedError

    def publish(self, now: float) -> None:
        """Publish the next message or messages; while cut off, as soon as there is a connection again."""
        batch, number = self._plan.batch, self._count
        tokens = [Token(self._place, number * batch + place) for place in range(batch)]
        publish = Publish(room=self._rooms[number % len(self._rooms)], tokens=tokens, sent_at=now)
        self._count += 1
        self.unacknowledged.append(publish)
        if self.is_connected and self._stream is not None:
            self.transmit(publish, self._stream)

    def connected(self, stream: Stream) -> None:
        """Send over a new connection what waits for one."""
        self.is_connected = True
        for publish in self.unacknowledged:
            self.transmit(publish, stream)

    def ended(self, reason: str, retry_after: float | None) -> None:
        self._all.problems[reason] += 1
        self._all.result.reconnects += self.is_connected
        self.is_connected = False
        pause = (retry_after or 0.0) + RETURN_SECONDS * (0.5 + random.random())
        self._all.connect_at(time.monotonic() + pause, self)

    def acknowledged(self, publish: Publish, positions: Sequence[int]) -> None:
        """Record that a publish is durable, and that some of its messages are visible at these serials."""
        result, took = self._all.result, int((time.monotonic() - publish.sent_at) * STEPS_PER_SECOND)
        result.acknowledged.extend((publish.room, token) for token in publish.tokens)
        result.accept.add_steps(took)
        second = int(publish.sent_at - self._all.started)
        result.accept_by_second.setdefault(second, Latency()).add_steps(took)
        result.heads[publish.room] = max(result.heads[publish.room], *positions, 0)

    def refused(self, publish: Publish, code: int, reason: str) -> None:
        """Record that the server refuses a publish."""
        result = self._all.result
        result.refused += len(publish.tokens)
        self._all.problems[reason] += 1
        if code in FOR_GOOD:
            result.rejected.extend((publish.room, token) for token in publish.tokens)


class RealtimePublisher(Publisher):
    """Publishes by this project's protocol. Ids make publishing again harmless."""

    def __init__(self, place: int, publishers: Publishers) -> None:
        super().__init__(place, publishers)
        self._next_serial = 0

    def open(self) -> None:
        path = realtime.path_of(self._plan, client_id=f"{self._plan.run}-{self._place}")
        self._stream = WebSocket(self._all.poller, self._all.reader, self, path)

    def received(self, items: Sequence[Item]) -> None:
        for item in items:
            if not isinstance(item, Incoming):
                continue
            if item.action == Action.CONNECTED and not self.is_connected and self._stream is not None:
                self._next_serial = 0
                self.connected(self._stream)
            elif item.action in (Action.ACK, Action.NACK):
                self._answered(item)
            elif item.action in (Action.ERROR, Action.DISCONNECTED) and item.error is not None:
                self._all.problems[str(item.error)] += 1

    def transmit(self, publish: Publish, stream: Stream) -> None:
        plan, publish.msg_serial = self._plan, self._next_serial
        self._next_serial += 1
        room = plan.room_name(publish.room)
        stream.send(
            self._all.writer.publish(room, publish.msg_serial, publish.tokens, sent_at=publish.sent_at, size=plan.size)
        )

    def _answered(self, answer: Incoming) -> None:
        for place in range(answer.count):
            if not self.unacknowledged or self.unacknowledged[0].msg_serial != answer.msg_serial + place:
                # Answers come in the order of publishing (RTN7a); others would be counted for another message.
                self._all.problems["an answer to something that was not published, or out of order"] += 1
                return
            publish = self.unacknowledged.popleft()
            if answer.action == Action.NACK:
                self.refused(publish, answer.error.code if answer.error else 0, str(answer.error or "?"))
                continue
            serials = answer.res[place].get("serials", []) if place < len(answer.res) else []
            self.acknowledged(publish, [realtime.position_of(serial) for serial in serials if serial is not None])


class NchanPublisher(Publisher):
    """Publishes by pipelined POSTs on one connection. A POST cannot be repeated: a cut refuses what it leaves open."""

    def open(self) -> None:
        """Connect; POSTs need no conversation before."""
        while self.unacknowledged:
            self.refused(self.unacknowledged.popleft(), 0, "a POST without an answer")
        self._stream = HttpStream(self._all.poller, self, self._answered)
        self.connected(self._stream)

    def transmit(self, publish: Publish, stream: Stream) -> None:
        stream.send(nchan.post(self._plan, publish.tokens[0], sent_at=publish.sent_at))

    def _answered(self, response: Response) -> None:
        publish = self.unacknowledged.popleft()
        if response.status < 300:
            self.acknowledged(publish, [nchan.position_of(self._plan, publish.tokens[0])[1]])
        else:
            self.refused(publish, response.status * 100, f"{response.status} {response.reason}")


class Publishers(Group[Publisher]):
    """The publishers of one process: `places` are their numbers among all."""

    def __init__(self, plan: Plan, places: range) -> None:
        super().__init__(plan, PROCESS_PLACE + places.start)
        self.result = Published()
        self.started = float("inf")  # when publishing begins, in monotonic seconds
        kind = NchanPublisher if plan.protocol is Protocol.NCHAN else RealtimePublisher
        self._places = places
        self._publishers: list[Publisher] = [kind(place, self) for place in places]
        for publisher in self._publishers:
            self.connect_at(0.0, publisher)
        self._next = 0

    @property
    def waiting(self) -> int:
        """How many messages are not answered yet."""
        return sum(len(publisher.unacknowledged) for publisher in self._publishers) * self.plan.batch

    def step(self, seconds: float) -> None:
        now = time.monotonic()
        while (publisher := self.next_due(now)) is not None:
            publisher.connect()
        self.poller.poll(seconds)

    def progress(self) -> Progress:
        return Progress(
            ready=sum(publisher.is_connected for publisher in self._publishers),
            published=self.result.published,
            acknowledged=len(self.result.acknowledged),
            problems=self.worst_problems(),
        )

    def publish_due(self) -> float | None:
        """Publish what is due by now, and return the seconds until the next publish is; None after the last."""
        now, result = time.monotonic(), self.result
        while (moment := self._next_moment()) is not None and moment <= now:
            self._publishers[self._next % len(self._publishers)].publish(time.monotonic())
            self._next += 1
            result.published += self.plan.batch
            result.behind_seconds = max(result.behind_seconds, now - moment)
        return None if moment is None else max(0.0, moment - time.monotonic())

    def _next_moment(self) -> float | None:
        """Return when this process publishes next. All processes together publish in turn, at even distances."""
        turn, place = divmod(self._next, len(self._publishers))
        number = turn * self.plan.publishers + self._places[place]
        if number >= self.plan.publishes:
            return None
        return self.started + number * self.plan.batch / self.plan.rate
