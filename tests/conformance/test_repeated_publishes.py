"""Publishing is idempotent by message id: over REST, over a connection, and from one to the other."""

from __future__ import annotations

import json
import secrets
import urllib.error
import urllib.request
from typing import Any

import pytest

from rooms.protocol.wire import Action
from tests.conformance.raw import RawClient
from tests.instance import Instance
from tests.patience import PATIENCE


@pytest.fixture
def room() -> str:
    return f"repeats-{secrets.token_hex(4)}"


def call(instance: Instance, key: str, room: str, *messages: dict[str, Any]) -> tuple[int, Any]:
    """Publish by REST, or read the history where there is nothing to publish. Return status and answer."""
    request = urllib.request.Request(
        f"{instance.url}/channels/{room}/messages?key={key}",
        data=json.dumps(messages if len(messages) > 1 else messages[0]).encode() if messages else None,
        headers={"Content-Type": "application/json", "Accept": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def texts(instance: Instance, key: str, room: str) -> list[str]:
    return [message["data"] for message in reversed(call(instance, key, room)[1])]


async def say(client: RawClient, room: str, serial: int, *messages: dict[str, Any]) -> dict[str, Any]:
    """Publish over a connection, and return the protocol message that answers."""
    await client.send(action=Action.MESSAGE, channel=room, msgSerial=serial, messages=messages)
    while True:
        answer: dict[str, Any] = json.loads(await client.socket.recv())
        if answer["action"] in (Action.ACK, Action.NACK):
            return answer


def test_by_rest_the_same_id_again_gets_the_first_answer_whatever_it_says_now(
    instance: Instance, key: str, room: str
) -> None:
    status, first = call(instance, key, room, {"id": "order-17", "data": "paid"})
    assert (status, len(first["serials"])) == (201, 1)

    assert call(instance, key, room, {"id": "order-17", "data": "paid"}) == (201, first)
    assert call(instance, key, room, {"id": "order-17", "data": "not paid"}) == (201, first)
    assert texts(instance, key, room) == ["paid"]


def test_a_list_that_is_sent_again_with_more_in_it_adds_only_what_is_new(
    instance: Instance, key: str, room: str
) -> None:
    one, two, three = ({"id": f"batch:{place}", "data": f"{place}"} for place in range(3))
    _, first = call(instance, key, room, one, two)
    _, again = call(instance, key, room, one, two, three)

    assert again["serials"][:2] == first["serials"]
    assert texts(instance, key, room) == ["0", "1", "2"]


async def test_what_was_published_by_rest_is_a_repeat_over_a_connection_and_the_other_way_round(
    instance: Instance, key: str, room: str
) -> None:
    _, by_rest = call(instance, key, room, {"id": "a", "data": "by rest"})
    async with RawClient.connected(instance.url, key=key) as client:
        await client.expect(Action.CONNECTED)
        again = await say(client, room, 0, {"id": "a", "data": "by connection"})
        own = await say(client, room, 1, {"id": "b", "data": "by connection"})
        more = await say(client, room, 2, {"id": "b", "data": "something else"})
    _, repeated = call(instance, key, room, {"id": "b", "data": "by rest"})

    assert again["res"][0]["serials"] == by_rest["serials"]
    assert own["res"][0]["serials"] == more["res"][0]["serials"] == repeated["serials"]
    assert texts(instance, key, room) == ["by rest", "by connection"]


async def test_a_refused_message_stays_refused_under_its_id(instance: Instance, key: str, room: str) -> None:
    unseen = {"id": "a", "data": "\u200b" * 8}
    status, refusal = call(instance, key, room, unseen)
    assert (status, refusal["error"]["code"]) == (422, 42212)

    assert call(instance, key, room, unseen | {"data": "something that can be seen"})[1]["error"]["code"] == 42212
    async with RawClient.connected(instance.url, key=key) as client:
        await client.expect(Action.CONNECTED)
        assert (await say(client, room, 0, unseen))["error"]["code"] == 42212
    assert texts(instance, key, room) == []


async def test_an_id_is_taken_once_whoever_publishes_it(instance: Instance, key: str, room: str) -> None:
    _, first = call(instance, key, room, {"id": "a", "clientId": "alice", "data": "of alice"})
    assert call(instance, key, room, {"id": "a", "clientId": "bob", "data": "of bob"}) == (201, first)
    async with RawClient.connected(instance.url, key=key, clientId="bob") as client:
        await client.expect(Action.CONNECTED)
        assert (await say(client, room, 0, {"id": "a", "data": "of bob"}))["res"][0]["serials"] == first["serials"]
        await say(client, room, 1, {"id": "b", "data": "of bob"})
    assert texts(instance, key, room) == ["of alice", "of bob"]


async def test_ids_that_the_server_gives_are_the_same_for_a_publish_that_is_sent_again(
    instance: Instance, key: str, room: str
) -> None:
    """A resumed connection sends again what was not acknowledged, under the old number."""
    async with RawClient.connected(instance.url, key=key) as client:
        connected = await client.expect(Action.CONNECTED)
        first = await say(client, room, 0, {"data": "once"}, {"data": "twice"})
    resumed = connected["connectionDetails"]["connectionKey"]
    async with RawClient.connected(instance.url, key=key, resume=resumed) as client:
        assert (await client.expect(Action.CONNECTED))["connectionId"] == connected["connectionId"]
        again = await say(client, room, 0, {"data": "once"}, {"data": "twice"})
        more = await say(client, room, 1, {"data": "more"})

    assert again["res"] == first["res"] and "res" in more
    assert texts(instance, key, room) == ["once", "twice", "more"]
