"""Servers that share the rooms: who hears what, and what one that dies or hangs costs the others."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import RedisError

from chatsite.channel_layer.layer import BroadcastLayer
from tests.chatsite.channel_layer.conftest import Listener, MakeLayer, expect_a_batch_at_exactly_those_who_joined
from tests.chatsite.channel_layer.servers import Server
from tests.patience import PATIENCE


def group_on(layer: BroadcastLayer, server: Server) -> str:
    """Return a group that this server carries."""
    return next(f"room.{n}" for n in range(1000) if layer.group_lane(f"room.{n}") == f"127.0.0.1:{server.port}")


def address(servers: list[Server]) -> str:
    return ",".join(server.url for server in servers)


async def test_a_batch_reaches_exactly_those_who_joined_in_order(
    two_servers: list[Server], make_layer: MakeLayer
) -> None:
    sender, first, second = (make_layer(address(two_servers)) for _ in range(3))
    await expect_a_batch_at_exactly_those_who_joined(sender, first, second)


async def test_who_left_hears_nothing_and_may_come_back(two_servers: list[Server], make_layer: MakeLayer) -> None:
    sender, receiver = make_layer(address(two_servers)), make_layer(address(two_servers))
    listener = await Listener.on(receiver, "room.1", "room.2")
    await receiver.group_discard("room.1", listener.channel)
    await sender.send_many(groups=[("room.1", {"number": 1}), ("room.2", {"number": 2})], channels=())
    assert await listener.hears(1) == [2]

    await receiver.group_discard("room.2", listener.channel)
    await receiver.group_add("room.1", listener.channel)
    await sender.send_many(groups=[("room.2", {"number": 3}), ("room.1", {"number": 4})], channels=())
    assert await listener.hears(1) == [4]
    assert receiver.received == 2


async def test_a_server_that_dies_costs_the_others_nothing_and_is_joined_again(
    two_servers: list[Server], make_layer: MakeLayer
) -> None:
    sender, receiver = make_layer(address(two_servers)), make_layer(address(two_servers))
    doomed, spared = group_on(sender, two_servers[0]), group_on(sender, two_servers[1])
    listener = await Listener.on(receiver, doomed, spared)
    await sender.send_many(groups=[(doomed, {"number": 1}), (spared, {"number": 2})], channels=())
    assert sorted(await listener.hears(2)) == [1, 2]

    two_servers[0].kill()
    with pytest.raises((RedisError, OSError)):
        await sender.send_many(groups=[(doomed, {"number": 3}), (spared, {"number": 4})], channels=())
    assert await listener.hears(1) == [4]

    two_servers[0].start()
    await listener.hears_what_is_sent(sender, doomed)
    assert receiver.reconnects > 0


async def test_a_server_that_hangs_is_left_alone_for_a_bounded_time(
    two_servers: list[Server], make_layer: MakeLayer
) -> None:
    sender = make_layer(address(two_servers), timeout=3)
    receiver = make_layer(address(two_servers))
    doomed, spared = group_on(sender, two_servers[0]), group_on(sender, two_servers[1])
    listener = await Listener.on(receiver, doomed, spared)
    await sender.group_send(doomed, {"number": 1})
    assert await listener.hears(1) == [1]

    with two_servers[0].hanging():
        hanging = asyncio.create_task(sender.group_send(doomed, {"number": 2}))
        await sender.group_send(spared, {"number": 3})
        assert await listener.hears(1) == [3]
        assert not hanging.done()
        with pytest.raises(TimeoutError):
            await hanging
    await sender.group_send(doomed, {"number": 4})
    assert (await listener.hears(2))[-1] == 4  # on a new connection: the answer to 2 was not taken for that to 4


async def test_a_connection_that_was_cut_while_idle_loses_nothing(
    two_servers: list[Server], make_layer: MakeLayer
) -> None:
    sender, receiver = make_layer(two_servers[0].url), make_layer(two_servers[0].url)
    listener = await Listener.on(receiver, "room.1")
    await sender.group_send("room.1", {"number": 1})
    assert await listener.hears(1) == [1]

    with two_servers[0].client() as client:
        client.execute_command("CLIENT KILL TYPE normal SKIPME yes")
    await sender.group_send("room.1", {"number": 2})
    assert await listener.hears(1) == [2]


async def test_subscriptions_that_were_cut_come_back(two_servers: list[Server], make_layer: MakeLayer) -> None:
    sender, receiver = make_layer(two_servers[0].url), make_layer(two_servers[0].url)
    listener = await Listener.on(receiver, *(f"room.{n}" for n in range(1200)))
    with two_servers[0].client() as client:
        client.execute_command("CLIENT KILL TYPE pubsub")

    await listener.hears_what_is_sent(sender, "room.1199")
    await listener.hears_what_is_sent(sender, "room.0")


async def test_a_layer_without_a_server_raises_and_keeps_nothing(make_layer: MakeLayer) -> None:
    layer = make_layer("redis://127.0.0.1:1")

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(layer.new_channel(), 0.2)
    with pytest.raises(RedisError):
        await layer.group_send("room.1", {"number": 1})
    assert not layer.channels
    assert layer.broker._nodes[0].subscriber._wanted == set()


async def test_what_nobody_takes_is_dropped_at_the_limit_and_counted(
    two_servers: list[Server], make_layer: MakeLayer
) -> None:
    sender, receiver = make_layer(two_servers[0].url), make_layer(two_servers[0].url, inbox_bytes=20_000)
    listener = await Listener.on(receiver, "room.1", "room.2")

    await sender.send_many(groups=[("room.1", {"number": n, "text": "x" * 900}) for n in range(100)], channels=())
    async with asyncio.timeout(PATIENCE):
        while receiver.received < 100:
            await asyncio.sleep(0)

    kept = await listener.hears(100 - receiver.overflowed)
    assert kept == list(range(receiver.overflowed, 100))
    assert 70 < receiver.overflowed < 100
