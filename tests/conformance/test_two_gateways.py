"""Two gateway processes behind one port: nobody can tell which one serves whom."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import jwt
import pytest

from chatsite.up.embedded import free_port
from rooms.protocol.wire import Action
from tests.conformance import node
from tests.conformance.raw import RawClient
from tests.instance import ROOT, Instance, wait_until
from tests.patience import PATIENCE

TRIES = 64


@pytest.fixture(autouse=True)
def _both_listen(pair: Instance) -> None:
    pair.wait_for_gateways()


@pytest.fixture
async def near_and_far(pair: Instance, pair_key: str) -> AsyncIterator[tuple[RawClient, RawClient]]:
    """One client at each gateway."""
    async with AsyncExitStack() as stack:
        by_server: dict[str, RawClient] = {}
        for _ in range(TRIES):
            client = await stack.enter_async_context(RawClient.connected(pair.url, key=pair_key))
            details = (await client.expect(Action.CONNECTED))["connectionDetails"]
            by_server.setdefault(details["serverId"], client)
            if len(by_server) == 2:
                break
        near, far = by_server.values()
        yield near, far


async def publish(client: RawClient, room: str, first: int, last: int) -> None:
    for number in range(first, last + 1):
        await client.send(action=Action.MESSAGE, channel=room, msgSerial=number, messages=[{"data": str(number)}])
    acknowledged = first - 1
    while acknowledged < last:
        ack = await client.expect(Action.ACK)  # one for several publishes, if they were answered together
        acknowledged = ack["msgSerial"] + ack["count"] - 1


async def texts(client: RawClient, count: int) -> list[str]:
    """Return the data of the next messages."""
    found: list[str] = []
    while len(found) < count:
        found += [message["data"] for message in (await client.expect(Action.MESSAGE))["messages"]]
    return found


async def test_what_is_published_at_one_arrives_at_the_other(near_and_far: tuple[RawClient, RawClient]) -> None:
    near, far = near_and_far
    await far.attach("across")
    await publish(near, "across", 0, 49)
    assert await texts(far, 50) == [str(number) for number in range(50)]


async def test_a_member_resumes_at_the_other_gateway_with_exactly_what_it_missed(
    near_and_far: tuple[RawClient, RawClient],
) -> None:
    near, far = near_and_far
    await near.attach("moved")
    await publish(far, "moved", 0, 9)
    assert await texts(near, 10) == [str(number) for number in range(10)]
    seen = near.received[-1]["channelSerial"]
    await publish(far, "moved", 10, 29)
    attached = await far.attach("moved", channelSerial=seen)
    assert attached["flags"] & 4  # RESUMED
    await publish(near, "moved", 0, 0)
    assert await texts(far, 21) == [str(number) for number in range(10, 30)] + ["0"]


async def test_tokens_that_are_revoked_at_one_end_at_both(pair: Instance, pair_key: str) -> None:
    name, _, secret = pair_key.partition(":")
    now = time.time()
    claims = {"iat": now, "exp": now + 3600, "x-ably-capability": '{"*":["*"]}', "x-ably-revocation-key": "group"}
    token = jwt.encode(claims, secret, algorithm="HS256", headers={"kid": name})
    async with AsyncExitStack() as stack:
        members: dict[str, RawClient] = {}
        for _ in range(TRIES):
            member = await stack.enter_async_context(RawClient.connected(pair.url, accessToken=token))
            members[(await member.expect(Action.CONNECTED))["connectionDetails"]["serverId"]] = member
            if len(members) == 2:
                break
        pair.manage("apikey", "revoke-tokens", "--revocation-key", "group")
        async with asyncio.timeout(PATIENCE):
            for member in members.values():
                assert (await member.expect(Action.DISCONNECTED))["error"]["code"] == 40141
        again = await stack.enter_async_context(RawClient.connected(pair.url, accessToken=token))
        assert (await again.expect(Action.ERROR))["error"]["code"] == 40141


def test_the_javascript_sdk_finds_at_two_gateways_what_it_finds_at_one(pair: Instance, pair_key: str) -> None:
    node.run("crowd.test.mjs", key=pair_key, port=pair.port, format="msgpack")


def test_the_tutorials_lambda_token_server_and_page_work_unchanged(
    pair: Instance, pair_key: str, tmp_path: Path
) -> None:
    handler = tmp_path / "lambda.mjs"
    tutorial = Path(__file__).with_name("seed_lambda.mjs").read_text()
    handler.write_text(tutorial.replace("INSERT_YOUR_KEY_HERE", pair_key).replace("INSERT_PORT_HERE", str(pair.port)))
    with serving(handler) as url:
        pair.manage("rule", "add", "--name", "tutorial", "--filter", "^chat:from-clients", "--url", url)
        node.run("seed.test.mjs", key=pair_key, port=pair.port, format="json")


@contextmanager
def serving(handler: Path) -> Iterator[str]:
    """Run a Lambda on this machine and yield its Function URL."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "integrations.lambda_runtime", str(handler), "--port", str(port)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        try:
            assert b"ready" in process.stdout.readline()
            yield f"http://127.0.0.1:{port}/"
        finally:
            process.send_signal(signal.SIGTERM)


def test_both_gateways_are_at_work(pair: Instance) -> None:
    assert wait_until(lambda: {"gateway-1", "gateway-2"} <= pair.pids().keys())
