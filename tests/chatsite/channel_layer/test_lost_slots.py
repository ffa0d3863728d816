"""A cluster in which nobody has a slot for a while, as between a node's death and its replica's election."""

from __future__ import annotations

import asyncio

import pytest
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError

from chatsite.channel_layer.addresses import Address
from chatsite.channel_layer.cluster import Cluster
from chatsite.channel_layer.node import Links
from chatsite.channel_layer.slots import Slots
from chatsite.up.embedded import free_port

CHANNEL = "room"
SLOT = key_slot(CHANNEL.encode())


async def test_who_leaves_before_the_slots_are_known_is_not_told_to_have_subscribed() -> None:
    links = Links(sharded=True, timeout=0.2, deliver=lambda name, data: None, on_trouble=lambda: None)
    cluster = Cluster([Address({"host": "127.0.0.1", "port": free_port()})], links)
    await cluster._reading.acquire()
    waiting = asyncio.create_task(cluster.subscribe(CHANNEL))
    await asyncio.sleep(0)
    cluster._slots = Slots({SLOT: ("127.0.0.1", free_port())})
    cluster._read_at = asyncio.get_running_loop().time() + 1  # somebody else has read them
    await cluster.leave(CHANNEL)
    cluster._reading.release()

    with pytest.raises(RedisConnectionError):
        await waiting
    assert not cluster._placed
    await cluster.close()


async def test_who_listened_to_a_slot_that_nobody_has_listens_where_it_was_and_ends_with_all_others() -> None:
    former, other = ("127.0.0.1", free_port()), ("127.0.0.1", free_port())
    links = Links(sharded=True, timeout=0.2, deliver=lambda name, data: None, on_trouble=lambda: None)
    cluster = Cluster([Address({"host": "127.0.0.1", "port": other[1]})], links)
    cluster._slots = Slots({SLOT: former})
    waiting = asyncio.create_task(cluster.subscribe(CHANNEL))
    await asyncio.sleep(0)

    cluster._slots = Slots({SLOT + 1: other})
    for _ in range(2):
        await cluster._move_subscriptions()
    assert not waiting.done()

    await cluster.close()
    with pytest.raises(RedisConnectionError):
        await waiting
    left = {task.get_name() for task in asyncio.all_tasks()} & {"redis subscriber", "redis cluster slots"}
    assert not left
