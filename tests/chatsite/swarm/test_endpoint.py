"""The swarm's own Lambda must notice each promise that a server breaks towards Lambdas, and none that it keeps."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from chatsite.swarm.endpoint import Endpoint
from chatsite.swarm.plan import Plan, Review
from chatsite.swarm.results.tally import Token
from tests.chatsite.swarm.test_plan import plan


@asynccontextmanager
async def serving(endpoint: Endpoint) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to an endpoint."""
    server = await asyncio.start_server(endpoint.serve, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        try:
            yield reader, writer
        finally:
            writer.close()


async def call(stream: Any, body: Any, webhook_id: str = "msg_1") -> Any:
    """POST a call and return what is answered."""
    reader, writer = stream
    content = json.dumps(body).encode()
    writer.write(
        b"POST / HTTP/1.1\r\nwebhook-id: %b\r\ncontent-length: %d\r\n\r\n" % (webhook_id.encode(), len(content))
    )
    writer.write(content)
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length")).split()[1]
    return json.loads(await reader.readexactly(int(length)))


def single(*ids: str) -> Any:
    return {"messages": [{"id": one, "data": "x"} for one in ids]}


def reviewing(**changes: Any) -> Plan:
    return plan(review=Review.SINGLE, **changes)


async def test_it_accepts_single_and_batched_calls_and_knows_repeats_and_changed_ids() -> None:
    asked = reviewing()
    endpoint, run = Endpoint(asked), asked.run
    async with serving(endpoint) as stream:
        assert await call(stream, single(f"{run}-0-0")) == {"action": "accept"}
        assert await call(stream, single(f"{run}-0-0")) == {"action": "accept"}
        assert await call(stream, single(f"{run}-0-1"), "msg_2") == {"action": "accept"}
        assert await call(stream, single(f"{run}-0-1"), "msg_3") == {"action": "accept"}
        items = [{"id": f"msg_{n}", "data": {"messages": [{"id": f"{run}-1-{n}"}]}} for n in (7, 8)]
        verdicts = [{"id": f"msg_{n}", "action": "accept"} for n in (7, 8)]
        assert await call(stream, {"items": items}, "bat_1") == {"verdicts": verdicts}
        await call(stream, single("somebody-elses"))

    found = {token: (one.calls, one.ids) for token, one in endpoint.tally.asked.items()}
    assert found == {Token(0, 0): (2, 1), Token(0, 1): (2, 2), Token(1, 7): (1, 1), Token(1, 8): (1, 1)}
    assert endpoint.tally.calls == 6


async def test_while_it_is_down_it_answers_nothing() -> None:
    asked = reviewing()
    endpoint = Endpoint(asked)
    endpoint.down = (time.monotonic() - 1, time.monotonic() + 60)
    async with serving(endpoint) as stream:
        try:
            await call(stream, single(f"{asked.run}-0-0"))
        except asyncio.IncompleteReadError as error:
            assert error.partial == b""
        else:
            raise AssertionError("it answered")
    assert not endpoint.tally.asked[Token(0, 0)].answered
