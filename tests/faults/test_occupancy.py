"""How many are here, while gateways are killed and people come and go."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from itertools import pairwise
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from rooms.occupancy import store
from rooms.occupancy.heartbeat import BEAT_SECONDS
from rooms.protocol.wire import Action
from tests.conformance.raw import RawClient
from tests.instance import Instance
from tests.patience import PATIENCE

MEMBERS = 12


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


async def connect(stack: AsyncExitStack, instance: Instance, key: str) -> tuple[str, RawClient]:
    """Return a client and the server id of its gateway."""
    client = await stack.enter_async_context(RawClient.connected(instance.url, key=key))
    return (await client.expect(Action.CONNECTED))["connectionDetails"]["serverId"], client


async def told(client: RawClient) -> tuple[int, int]:
    """Return the next number of connections that a client is told, and when (milliseconds since the epoch)."""
    (message,) = (await client.expect(Action.MESSAGE))["messages"]
    assert message["name"] == "[meta]occupancy"
    return json.loads(message["data"])["metrics"]["connections"], message["timestamp"]


async def wait_for(client: RawClient, connections: int) -> list[tuple[int, int]]:
    """Return all that a client is told until it is this many."""
    heard: list[tuple[int, int]] = []
    async with asyncio.timeout(PATIENCE):
        while not heard or heard[-1][0] != connections:
            heard.append(await told(client))
    return heard


def name_of(instance: Instance, server_id: str) -> str:
    """Return the service that says of itself that it is the gateway of this id."""
    with psycopg.connect(instance.facts["database_url"]) as connection:
        (pid,) = connection.execute("SELECT pid FROM rooms_gatewayprocess WHERE server_id = %s", [server_id]).fetchone()
    return {other: name for name, other in instance.pids().items()}[pid]


async def come_and_go(client: RawClient, room: str, while_running: asyncio.Task[Any]) -> None:
    """Attach and detach until something else is done."""
    while not while_running.done():
        await client.attach(room)
        await client.send(action=Action.DETACH, channel=room)
        await client.expect(Action.DETACHED)


def test_a_killed_gateway_is_out_of_the_count_within_five_seconds() -> None:
    """Stated by what its members are counted for: its last beat's time to live, and the next beat of who counts."""
    assert store.ALIVE_SECONDS + BEAT_SECONDS < 5


async def test_a_killed_gateways_members_are_out_of_the_count_and_nobody_is_flooded(
    victim: Instance, victim_key: str, stack: AsyncExitStack
) -> None:
    room = f"occupancy:{uuid4()}"
    members = [await connect(stack, victim, victim_key) for _ in range(MEMBERS)]
    while len({server for server, _ in members}) < 2 or [near for near, _ in members].count(members[0][0]) < 2:
        members.append(await connect(stack, victim, victim_key))
    near, subscriber = members.pop(0)
    restless = next(client for server, client in members if server == near)
    members = [(server, client) for server, client in members if client is not restless]
    far = next(server for server, _ in members if server != near)
    await subscriber.attach(room, params={"occupancy": "metrics.connections"})
    for _, client in members:
        await client.attach(room)
    heard = await wait_for(subscriber, 1 + len(members))

    name = name_of(victim, far)
    killing = asyncio.create_task(asyncio.to_thread(victim.kill, name))
    await come_and_go(restless, room, killing)
    heard += await wait_for(subscriber, 1 + sum(server == near for server, _ in members))

    pairs = list(pairwise(heard))
    assert min(later - earlier for (_, earlier), (_, later) in pairs) >= 990
    assert all(one != other for (one, _), (other, _) in pairs)
