"""The swarm's own Lambda: an HTTP endpoint that accepts every message, and remembers what it was asked and when.

It takes almost no time of its own, so that what is measured beyond it is the server's. Told to be down, it closes
each connection without an answer, as a crashed function behind a load balancer does.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from typing import Any

import msgspec

from chatsite.swarm.findings import Token
from chatsite.swarm.latency import STEPS_PER_SECOND
from chatsite.swarm.orders import Finish, Start
from chatsite.swarm.plan import Plan

POLL_SECONDS = 0.05  # for orders of the conductor
HEAD_MAX_BYTES = 65_536
ACCEPT = b'{"action":"accept"}'


@dataclass(kw_only=True)
class Asked:
    """What the endpoint knows of one message. Moments in steps of 0.1 ms of the monotonic clock."""

    webhook_id: str
    arrived: int
    answered: int = 0  # with a verdict, for the first time
    calls: int = 1
    ids: int = 1  # different webhook ids; more than one breaks the promise


@dataclass(kw_only=True)
class EndpointTally:
    """What the endpoint saw of a run."""

    calls: int = 0
    answered: int = 0  # calls
    asked: dict[Token, Asked] = field(default_factory=dict)
    problems: Counter[str] = field(default_factory=Counter)


class Known(msgspec.Struct, frozen=True):
    """A message, as far as it is looked at."""

    id: str


class Data(msgspec.Struct, frozen=True):
    """What an item of a batch is about."""

    messages: list[Known]


class Item(msgspec.Struct, frozen=True):
    """One event of a batch."""

    id: str
    data: Data


class Body(msgspec.Struct, frozen=True):
    """The body of a call, single or batched."""

    messages: list[Known] = []
    items: list[Item] = []


class Endpoint:
    """Answers calls. `down` is the time (monotonic seconds, from and until) in which it does not."""

    def __init__(self, plan: Plan) -> None:
        self.tally = EndpointTally()
        self.down: tuple[float, float] | None = None
        self._run = plan.run
        self._seconds = plan.review_ms / 1000
        self._decode = msgspec.json.Decoder(Body).decode

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the calls of one connection, one after the other, until the peer closes it."""
        try:
            while await self._serve_one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        headers = dict(_headers(head))
        body = await reader.readexactly(int(headers.get(b"content-length", b"0")))
        self.tally.calls += 1
        asked, answer = self._read(headers.get(b"webhook-id", b"").decode("latin-1"), body)
        if self.down is not None and self.down[0] <= time.monotonic() < self.down[1]:
            return False
        if self._seconds:
            await asyncio.sleep(self._seconds)
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(answer), answer)
        )
        now = _step()
        for each in asked:
            each.answered = each.answered or now
        self.tally.answered += 1
        return True

    def _read(self, webhook_id: str, body: bytes) -> tuple[list[Asked], bytes]:
        """Note the messages of a call, and return them with the verdicts on them."""
        try:
            call = self._decode(body)
        except msgspec.MsgspecError:
            self.tally.problems["a call whose body is not of the documented shape"] += 1
            return [], ACCEPT
        if not call.items:
            return [asked for message in call.messages for asked in self._note(message.id, webhook_id)], ACCEPT
        asked = [
            one for item in call.items for message in item.data.messages for one in self._note(message.id, item.id)
        ]
        return asked, msgspec.json.encode({"verdicts": [{"id": item.id, "action": "accept"} for item in call.items]})

    def _note(self, message_id: str, webhook_id: str) -> Iterable[Asked]:
        run, _, rest = message_id.partition("-")
        publisher, _, number = rest.partition("-")
        if run != self._run or not number.isdecimal():
            return
        token = Token(int(publisher), int(number))
        asked = self.tally.asked.get(token)
        if asked is None:
            asked = self.tally.asked[token] = Asked(webhook_id=webhook_id, arrived=_step())
        else:
            asked.calls += 1
            asked.ids += asked.webhook_id != webhook_id
            if not asked.answered:
                asked.arrived = _step()  # what counts is the call that is answered
        yield asked


def run_endpoint(plan: Plan, pipe: Pipe) -> None:
    """Serve until the conductor closes its end; send the port, and the tally when asked for it."""
    asyncio.run(_run(plan, pipe))


async def _run(plan: Plan, pipe: Pipe) -> None:
    endpoint = Endpoint(plan)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(endpoint.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    try:
        server = await asyncio.start_server(accept, "127.0.0.1", plan.review_port, limit=HEAD_MAX_BYTES, backlog=1024)
    except OSError as error:
        pipe.send(f"Port {plan.review_port} is taken ({error.strerror}): name another one with --review-port.")
        return
    try:
        pipe.send(None)
        while True:
            order: Any = pipe.recv() if pipe.poll() else None
            if isinstance(order, Start) and plan.review_down is not None:
                endpoint.down = (order.at + plan.review_down[0], order.at + plan.review_down[1])
            elif isinstance(order, Finish):
                pipe.send(endpoint.tally)
            await asyncio.sleep(POLL_SECONDS)
    except (BrokenPipeError, EOFError):
        pass
    finally:
        server.close()


def _headers(head: bytes) -> Iterable[tuple[bytes, bytes]]:
    for line in head.split(b"\r\n")[1:]:
        name, colon, value = line.partition(b":")
        if colon:
            yield name.lower(), value.strip()


def _step() -> int:
    return int(time.monotonic() * STEPS_PER_SECOND)
