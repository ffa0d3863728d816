"""The swarm's own Lambda: an HTTP endpoint that accepts every message, and records the calls and their moments.

It takes almost no time of its own, so that what is measured beyond it is the server's: HTTP is parsed by hand because a
call costs 80 µs so (with its caller), and 200 µs with aiohttp. While it is to be down it closes each connection without
an answer, as a crashed function behind a load balancer does.
"""

from __future__ import annotations

import asyncio
import time
from multiprocessing.connection import Connection as Pipe
from typing import Any

import msgspec

from chatsite.swarm.orders import Finish, Start
from chatsite.swarm.plan import Plan
from chatsite.swarm.results.latency import STEPS_PER_SECOND
from chatsite.swarm.results.tally import Asked, EndpointTally, Token

POLL_SECONDS = 0.05  # for orders of the conductor
HEAD_MAX_BYTES = 65_536
ACCEPT = b'{"action":"accept"}'


class Message(msgspec.Struct, frozen=True):
    """A message, as far as it is looked at."""

    id: str


class Event(msgspec.Struct, frozen=True):
    """One event: some messages."""

    messages: list[Message] = []


class Item(msgspec.Struct, frozen=True):
    """One event of a batch."""

    id: str
    data: Event


class Call(Event, frozen=True):
    """The body of a call: an event, or the items of a batch."""

    items: list[Item] = []


class Endpoint:
    """Answers calls. `down` is the time (monotonic seconds, from and until) in which it does not."""

    def __init__(self, plan: Plan) -> None:
        self.tally = EndpointTally()
        self.down: tuple[float, float] | None = None
        self._run = plan.run
        self._seconds = plan.review_ms / 1000
        self._decode = msgspec.json.Decoder(Call).decode

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
        """Answer a call. Return False instead while the endpoint is down."""
        lines = (line.partition(b":") for line in (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n"))
        headers = {name.lower(): value.strip() for name, _, value in lines}
        body = await reader.readexactly(int(headers.get(b"content-length", b"0")))
        self.tally.calls += 1
        asked, answer = self._read(headers.get(b"webhook-id", b"").decode("latin-1"), body)
        if self.down is not None and self.down[0] <= time.monotonic() < self.down[1]:
            return False
        if self._seconds:
            await asyncio.sleep(self._seconds)
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        writer.write(head % len(answer) + answer)
        now = _step()
        for each in asked:
            each.answered = each.answered or now
        return True

    def _read(self, webhook_id: str, body: bytes) -> tuple[list[Asked], bytes]:
        """Record the messages of a call, and return their records and the answer."""
        try:
            call = self._decode(body)
        except msgspec.MsgspecError:
            return [], ACCEPT
        if not call.items:
            return self._record(call.messages, webhook_id), ACCEPT
        asked = [each for item in call.items for each in self._record(item.data.messages, item.id)]
        return asked, msgspec.json.encode({"verdicts": [{"id": item.id, "action": "accept"} for item in call.items]})

    def _record(self, messages: list[Message], webhook_id: str) -> list[Asked]:
        """Record that this run's messages were asked about. Messages of others are none of its business."""
        found = []
        for message in messages:
            run, _, rest = message.id.partition("-")
            publisher, _, number = rest.partition("-")
            if run == self._run and number.isdecimal():
                found.append(self._asked(Token(int(publisher), int(number)), webhook_id))
        return found

    def _asked(self, token: Token, webhook_id: str) -> Asked:
        asked = self.tally.asked.get(token)
        if asked is None:
            asked = self.tally.asked[token] = Asked(webhook_id=webhook_id, arrived=_step(), calls=0)
        elif not asked.answered:
            asked.arrived = _step()  # what counts is the call that is answered
        asked.calls += 1
        asked.ids += asked.webhook_id != webhook_id
        return asked


def run_endpoint(plan: Plan, pipe: Pipe) -> None:
    """Serve until the conductor closes its end; send the port's problem or None, and the tally when asked for it."""
    asyncio.run(_run(plan, pipe))


async def _run(plan: Plan, pipe: Pipe) -> None:
    endpoint = Endpoint(plan)
    try:
        server = await asyncio.start_server(
            endpoint.serve, "127.0.0.1", plan.review_port, limit=HEAD_MAX_BYTES, backlog=1024
        )
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
        pass  # the conductor is gone
    finally:
        server.close()


def _step() -> int:
    return int(time.monotonic() * STEPS_PER_SECOND)
