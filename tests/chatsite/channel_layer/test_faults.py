"""A fault in what handles a broadcast is not taken for an outage of Redis, and the listener goes on after it."""

from __future__ import annotations

import asyncio

import pytest

from chatsite.channel_layer.addresses import parse
from chatsite.channel_layer.subscriber import Subscriber
from rooms import faults
from tests.chatsite.channel_layer.servers import Server
from tests.patience import PATIENCE


async def test_a_fault_is_told_with_its_traceback_and_the_subscription_comes_back(
    two_servers: list[Server], caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[bytes] = []
    arrived = asyncio.Event()

    def deliver(channel: str, data: bytes) -> None:
        heard.append(data)
        if len(heard) == 1:
            raise KeyError("a fault")
        arrived.set()

    subscriber = Subscriber(
        parse(two_servers[0].url).addresses[0], sharded=False, timeout=1.0, deliver=deliver, on_trouble=lambda: None
    )
    before = faults.counts().get("redis subscriber", 0)
    await subscriber.subscribe("a channel")
    try:
        async with asyncio.timeout(PATIENCE):
            while not arrived.is_set():
                with two_servers[0].client() as client:
                    client.execute_command("PUBLISH", "a channel", "hello")
                await asyncio.sleep(0.05)
    finally:
        await subscriber.close()

    assert faults.counts()["redis subscriber"] == before + 1
    assert "KeyError: 'a fault'" in caplog.text
    assert "is away" not in caplog.text
