"""A Redis Cluster: rooms are spread over its nodes by slot, and followed wherever their slot goes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from redis.crc import key_slot
from redis.exceptions import RedisError

from chatsite.channel_layer.layer import BroadcastLayer
from tests.chatsite.channel_layer.conftest import Listener, MakeLayer, expect_a_batch_at_exactly_those_who_joined
from tests.chatsite.channel_layer.servers import Server, cluster_url, wait_for_agreement


def server_of(layer: BroadcastLayer, group: str, nodes: list[Server]) -> Server:
    """Return the node that carries a group, as the layer knows it."""
    return next(node for node in nodes if layer.group_lane(group) == lane_of(node))


def lane_of(node: Server) -> str:
    return f"127.0.0.1:{node.port}"


async def test_a_batch_reaches_exactly_those_who_joined_in_order(nodes: list[Server], make_layer: MakeLayer) -> None:
    sender, first, second = (make_layer(cluster_url(nodes[:number])) for number in (1, 2, 3))
    await expect_a_batch_at_exactly_those_who_joined(sender, first, second)
    assert {sender.group_lane(f"room.{n}") for n in range(20)} == {lane_of(node) for node in nodes[:3]}


async def test_who_left_hears_nothing(nodes: list[Server], make_layer: MakeLayer) -> None:
    sender, receiver = make_layer(cluster_url(nodes)), make_layer(cluster_url(nodes))
    listener = await Listener.on(receiver, "room.1", "room.2")
    await receiver.group_discard("room.1", listener.channel)
    await sender.send_many(groups=[("room.1", {"number": 1}), ("room.2", {"number": 2})], channels=())

    assert await listener.hears(1) == [2]
    assert receiver.received == 1


async def test_a_slot_that_moves_takes_its_rooms_along(nodes: list[Server], make_layer: MakeLayer) -> None:
    sender, receiver = make_layer(cluster_url(nodes)), make_layer(cluster_url(nodes))
    listener = await Listener.on(receiver, "room.1")
    await sender.group_send("room.1", {"number": 1})
    assert await listener.hears(1) == [1]

    former = server_of(sender, "room.1", nodes)
    move_slot(key_slot(b"chat__group__room.1"), nodes, former, nodes[(nodes.index(former) + 1) % 3])
    await sender.group_send("room.1", {"number": 2})  # told MOVED, it goes where the slot is
    assert server_of(sender, "room.1", nodes) is not former
    await listener.hears_what_is_sent(sender, "room.1")


def move_slot(slot: int, nodes: list[Server], source: Server, target: Server) -> None:
    with target.client() as client:
        target_id = client.execute_command("CLUSTER MYID")
    for node in (target, source, *nodes[:3]):
        with node.client() as client:
            client.execute_command("CLUSTER SETSLOT", slot, "NODE", target_id)


async def test_a_node_that_dies_costs_the_others_nothing_and_is_joined_again(
    nodes: list[Server], make_layer: MakeLayer
) -> None:
    sender, receiver = make_layer(cluster_url(nodes)), make_layer(cluster_url(nodes))
    await sender.group_send("room.0", {"number": 0})
    node = nodes[1]
    doomed = next(f"room.{n}" for n in range(99) if server_of(sender, f"room.{n}", nodes) is node)
    spared = next(f"room.{n}" for n in range(99) if server_of(sender, f"room.{n}", nodes) is not node)
    listener = Listener(receiver, await channel_beside(receiver, node, nodes))
    await receiver.group_add(doomed, listener.channel)
    await receiver.group_add(spared, listener.channel)

    node.kill()
    try:
        with pytest.raises((RedisError, OSError)):
            await sender.send_many(groups=[(doomed, {"number": 3}), (spared, {"number": 4})], channels=())
        assert await listener.hears(1) == [4]
    finally:
        node.start()
    await listener.hears_what_is_sent(sender, doomed)
    wait_for_agreement(nodes)


async def channel_beside(layer: BroadcastLayer, node: Server, nodes: list[Server]) -> str:
    """Return a new channel that another node carries."""
    while True:
        channel = await layer.new_channel()
        if layer.channel_lane(channel) != lane_of(node):
            return channel


async def test_a_replica_that_takes_over_is_followed(nodes: list[Server], make_layer: MakeLayer) -> None:
    sender, receiver = make_layer(cluster_url(nodes)), make_layer(cluster_url(nodes))
    await sender.group_send("room.0", {"number": 0})
    former, replica = nodes[0], nodes[-1]
    group = next(f"room.{n}" for n in range(99) if server_of(sender, f"room.{n}", nodes) is former)
    listener = Listener(receiver, await channel_beside(receiver, former, nodes))
    await receiver.group_add(group, listener.channel)

    with replica.client() as client:
        while client.info("replication").get("master_link_status") != "up":
            await asyncio.sleep(0.02)
        former.kill()
        client.execute_command("CLUSTER FAILOVER TAKEOVER")
    await listener.hears_what_is_sent(sender, group)
    assert server_of(sender, group, nodes) is replica
    former.start()
    wait_for_agreement(nodes)


@contextmanager
def hanging_servers(count: int) -> Iterator[str]:
    """Servers that take connections and say nothing; yield their addresses as REDIS_URL lists them."""
    with ExitStack() as stack:
        listening = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        yield ",".join("{}:{}".format(*server.getsockname()) for server in listening)


async def test_nodes_that_hang_cost_one_timeout_however_many_they_are(
    nodes: list[Server], make_layer: MakeLayer
) -> None:
    with hanging_servers(20) as hanging:
        layer = make_layer(f"redis+cluster://{hanging}", timeout=2.0)
        with pytest.raises(RedisError):
            await asyncio.wait_for(
                layer.send_many(groups=[("room.1", {"number": 1})], channels=()), 20
            )  # not twenty times two seconds

        layer = make_layer(f"redis+cluster://{hanging},127.0.0.1:{nodes[0].port}", timeout=2.0)
        await asyncio.wait_for(layer.send_many(groups=[("room.1", {"number": 1})], channels=()), 20)


async def test_nobody_answers_until_the_first_node_does(make_layer: MakeLayer) -> None:
    layer = make_layer("redis+cluster://127.0.0.1:1,127.0.0.1:2")

    with pytest.raises(RedisError):
        await layer.group_send("room.1", {"number": 1})
    with pytest.raises((RedisError, TimeoutError)):
        await asyncio.wait_for(layer.new_channel(), 0.5)
    assert not layer.channels
