"""The official Python SDK as its users run it, in both formats: MessagePack is its default."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any
from uuid import uuid4

import pytest
from ably import AblyException, AblyRealtime, AblyRest
from ably.types.channeloptions import ChannelOptions
from ably.types.message import Message

from tests.instance import Instance
from tests.patience import PATIENCE

AUTHORS, MEMBERS, MESSAGES = 10, 20, 1000

Client = Callable[..., Any]


@pytest.fixture(params=["msgpack", "json"])
async def client(request: pytest.FixtureRequest, instance: Instance, key: str) -> AsyncIterator[Client]:
    """Makes clients of either kind on the shared instance; all are closed at the end."""
    usual = {"port": instance.port, "tls": False, "fallback_hosts": []}
    # Version 3 of the SDK heeds `port` for REST only; for a connection the endpoint has to name it.
    endpoints = {AblyRealtime: f"127.0.0.1:{instance.port}", AblyRest: "127.0.0.1"}
    async with AsyncExitStack() as stack:

        def make(kind: type[Any] = AblyRealtime, **changes: Any) -> Any:
            # The SDK sends a key over TLS only: without, it signs itself a token request and gets a token.
            own = (
                {} if changes.keys() & {"auth_callback", "token"} else {"key": key, "use_token_auth": kind is AblyRest}
            )
            binary = request.param == "msgpack"
            made = kind(endpoint=endpoints[kind], use_binary_protocol=binary, **usual, **own, **changes)
            stack.push_async_callback(made.close)
            return made

        yield make


def new_room() -> str:
    return f"python:{uuid4()}"


async def listen(member: Any, room: str) -> list[Message]:
    """Subscribe and return the list into which messages go."""
    messages: list[Message] = []
    await member.channels.get(room).subscribe(lambda message: messages.append(message))  # the SDK takes no built-in
    return messages


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


async def whole_history(channel: Any, **parameters: Any) -> list[Message]:
    page = await channel.history(**parameters)
    items = list(page.items)
    while page.has_next():
        page = await page.next()
        items.extend(page.items)
    return items


async def test_a_thousand_messages_of_ten_connections_are_received_once_and_in_order_by_all(client: Client) -> None:
    room = new_room()
    received = await asyncio.gather(*(listen(client(), room) for _ in range(MEMBERS)))
    authors = [client(client_id=f"author-{place}") for place in range(AUTHORS)]
    own = range(MESSAGES // AUTHORS)

    await asyncio.gather(*(each.channels.get(room).publish("m", str(n)) for n in own for each in authors))
    await until(lambda: all(len(messages) >= MESSAGES for messages in received))

    expected = [message.id for message in received[0]]
    assert len(set(expected)) == MESSAGES
    assert all([message.id for message in messages] == expected for messages in received)
    for place in range(AUTHORS):
        by_author = [message.data for message in received[0] if message.client_id == f"author-{place}"]
        assert by_author == [str(number) for number in own]
    channel = client(AblyRest).channels.get(room)
    forwards = await whole_history(channel, direction="forwards", limit=300)
    assert [message.id for message in forwards] == expected
    backwards = await whole_history(channel, direction="backwards", limit=1000)
    assert [message.id for message in backwards] == expected[::-1]


async def test_data_arrives_as_it_was_sent(client: Client) -> None:
    room, sent = new_room(), ["text 🥬", {"a": [1, None]}, [1], b"\x00\xff", None]
    messages = await listen(client(), room)
    await client().channels.get(room).publish([Message(name="m", data=data) for data in sent])
    await client(AblyRest).channels.get(room).publish([Message(name="m", data=data) for data in sent])
    await until(lambda: len(messages) == 10)
    assert [message.data for message in messages] == sent * 2


async def test_a_token_of_ones_own_server_lets_a_client_in(client: Client) -> None:
    room, server = new_room(), client(AblyRest)
    asked = {"capability": {room: ["publish", "subscribe"]}, "client_id": "ada"}
    author = client(auth_callback=lambda _: server.auth.request_token(token_params=asked))
    messages = await listen(author, room)
    await author.channels.get(room).publish("m", "x")
    await until(lambda: len(messages) == 1)
    assert (messages[0].client_id, messages[0].data) == ("ada", "x")
    with pytest.raises(AblyException) as refused:
        await author.channels.get("elsewhere").attach()
    assert refused.value.code == 40160


async def test_a_token_request_of_ones_own_server_does_over_rest_what_its_capability_says(client: Client) -> None:
    room, server = new_room(), client(AblyRest)
    asked = {"capability": {room: ["history"]}}
    reader = client(AblyRest, auth_callback=lambda _: server.auth.create_token_request(token_params=asked))
    assert (await reader.channels.get(room).history()).items == []
    with pytest.raises(AblyException) as refused:
        await reader.channels.get(room).publish("m", "x")
    assert refused.value.code == 40160


@pytest.mark.parametrize(("data", "code"), [("x" * 70_000, 40009), ("\u200b" * 64, 42212)], ids=["70 KB", "zero-width"])
async def test_what_is_refused_is_refused_by_its_code(client: Client, data: str, code: int) -> None:
    for kind in (AblyRealtime, AblyRest):
        with pytest.raises(AblyException) as refused:
            await client(kind).channels.get(new_room()).publish("m", data)
        assert refused.value.code == code


async def test_the_server_tells_the_time(client: Client) -> None:
    assert await client(AblyRest).time() > 1_700_000_000_000


async def test_who_asks_is_told_how_many_are_in_the_room_and_misses_nothing_by_it(client: Client) -> None:
    room = new_room()
    asker = client()
    channel = asker.channels.get(room, ChannelOptions(params={"occupancy": "metrics.subscribers"}))
    told: list[Message] = []
    messages: list[Message] = []
    await channel.subscribe("[meta]occupancy", lambda message: told.append(message))
    await channel.subscribe("m", lambda message: messages.append(message))
    author = client().channels.get(room)
    await author.attach()
    await until(lambda: bool(told) and told[-1].data == {"metrics": {"subscribers": 2}})
    await author.publish("m", "1")
    await until(lambda: len(messages) == 1)
    heard = len(told)
    await client().channels.get(room).attach()
    await until(lambda: len(told) > heard)
    # It goes on after the serial that came last, which was not a message's, and forgets it where there was none.
    await asker.connection.connection_manager.transport.websocket.close(1012)
    await author.publish("m", "2")
    await until(lambda: len(messages) == 2)
    assert [message.data for message in messages] == ["1", "2"]


async def test_a_rooms_status_tells_who_is_there(client: Client) -> None:
    room = new_room()
    channel = client(AblyRest).channels.get(room)
    assert (await channel.status()).status.is_active is False
    await client().channels.get(room).attach()
    details = await channel.status()
    metrics = details.status.occupancy.metrics
    assert (details.channel_id, details.status.is_active) == (room, True)
    assert (metrics.connections, metrics.publishers, metrics.subscribers) == (1, 1, 1)
    assert (metrics.presence_connections, metrics.presence_members, metrics.presence_subscribers) == (1, 0, 1)
