"""What a client sends that no client should: it gets an answer, and nobody else notices."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import psutil
import psycopg
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from rooms.errors import Code
from rooms.protocol.wire import Action
from tests.instance import Instance
from tests.patience import PATIENCE


@pytest.fixture(scope="module")
def key(instance: Instance) -> str:
    return instance.key({"*": ["*"]})


@pytest.fixture(scope="module")
def reader_key(instance: Instance) -> str:
    """A key for one room alone."""
    return instance.key({"the-only-room": ["*"]})


@asynccontextmanager
async def connected(instance: Instance, key: str, **query: str) -> AsyncIterator[ClientConnection]:
    address = f"{instance.url.replace('http', 'ws')}/?{urlencode({'key': key, **query})}"
    async with connect(address, max_size=None) as socket:
        assert (await receive(socket))["action"] == Action.CONNECTED
        yield socket


async def receive(socket: ClientConnection) -> dict[str, Any]:
    message = await asyncio.wait_for(socket.recv(), PATIENCE)
    return dict(json.loads(message))


async def ask(socket: ClientConnection, **message: Any) -> dict[str, Any]:
    await socket.send(json.dumps(message))
    return await receive(socket)


async def code_of_close(socket: ClientConnection) -> int | None:
    with pytest.raises(ConnectionClosed) as caught:
        while True:
            await receive(socket)
    return caught.value.rcvd.code if caught.value.rcvd else None


def count_rooms(instance: Instance, prefix: str) -> int:
    with psycopg.connect(instance.facts["database_url"]) as database:
        found = database.execute("SELECT count(*) FROM rooms_room WHERE name LIKE %s", [f"{prefix}%"]).fetchone()
        assert found is not None
        return int(found[0])


async def test_who_may_not_use_a_room_does_not_make_it(instance: Instance, reader_key: str) -> None:
    async with connected(instance, reader_key) as socket:
        attached = await ask(socket, action=Action.ATTACH, channel="unasked-1")
        published = await ask(socket, action=Action.MESSAGE, channel="unasked-2", msgSerial=0, messages=[{"data": "x"}])
    history = await asyncio.to_thread(request, instance, reader_key, "GET", "/channels/unasked-3/messages")

    assert attached["error"]["code"] == published["error"]["code"] == Code.OPERATION_NOT_PERMITTED
    assert (attached["action"], published["action"], history.status) == (Action.ERROR, Action.NACK, 401)
    assert count_rooms(instance, "unasked") == 0


async def test_who_asks_for_a_history_makes_no_room(instance: Instance, key: str) -> None:
    history = await asyncio.to_thread(request, instance, key, "GET", "/channels/unasked-4/messages")
    attached = await asyncio.to_thread(
        request, instance, key, "GET", "/channels/unasked-4/messages?fromSerial=abcdefgh-000000000001"
    )

    assert (history.status, history.body) == (200, b"[]")
    assert attached.status == 400
    assert count_rooms(instance, "unasked") == 0


async def test_a_client_that_sends_only_noise_is_cut_off(instance: Instance, key: str) -> None:
    async with connected(instance, key) as socket:
        for _ in range(12):
            await socket.send("this is no protocol message")

        assert await code_of_close(socket) == 1003


async def test_a_publish_that_cannot_be_kept_is_refused_alone(instance: Instance, key: str) -> None:
    refused = [
        {"msgSerial": 0, "messages": [{"clientId": "x" * 1000, "data": "a"}]},
        {"msgSerial": 1, "messages": [{"clientId": "a\0b", "data": "a"}]},
        {"msgSerial": 2, "messages": [{"id": "x" * 1000, "data": "a"}]},
    ]
    async with connected(instance, key) as socket:
        codes = [
            (await ask(socket, action=Action.MESSAGE, channel="refusals", **publish))["error"]["code"]
            for publish in refused
        ]
        good = await ask(socket, action=Action.MESSAGE, channel="refusals", msgSerial=3, messages=[{"data": "a"}])

    assert codes == [Code.INVALID_CLIENT_ID, Code.INVALID_CLIENT_ID, Code.INVALID_MESSAGE_ID]
    assert good["action"] == Action.ACK


async def test_nobody_takes_the_message_ids_of_what_another_is_about_to_say(instance: Instance, key: str) -> None:
    async with connected(instance, key) as victim, connected(instance, key) as attacker:
        attach = {"action": Action.ATTACH, "channel": "ids"}
        assert (await ask(attacker, **attach))["action"] == Action.ATTACHED
        await ask(victim, action=Action.MESSAGE, channel="ids", msgSerial=0, messages=[{"data": "first"}])
        seen = (await receive(attacker))["messages"][0]
        guesses = [{"id": seen["id"].replace(":0", f":{n}", 1), "data": "mine"} for n in range(1, 5)]
        guesses += [{"id": f"{seen['connectionId']}:{n}:0", "data": "mine"} for n in range(1, 5)]
        await attacker.send(json.dumps({"action": 15, "channel": "ids", "msgSerial": 0, "messages": guesses}))
        while (await receive(attacker))["action"] not in (Action.ACK, Action.NACK):
            pass
        ack = await ask(victim, action=Action.MESSAGE, channel="ids", msgSerial=1, messages=[{"data": "second"}])
        history = await asyncio.to_thread(request, instance, key, "GET", "/channels/ids/messages?limit=1")

    assert ack["action"] == Action.ACK
    assert json.loads(history.body)[0]["data"] == "second"


class Response:
    def __init__(self, status: int, body: bytes, headers: Any) -> None:
        self.status, self.body, self.headers = status, body, headers


def request(instance: Instance, key: str, method: str, path: str, body: bytes | None = None) -> Response:
    headers = {
        "Authorization": f"Basic {base64.b64encode(key.encode()).decode()}",
        "Content-Type": "application/json",
    }
    wanted = urllib.request.Request(f"{instance.url}{path}", data=body, method=method, headers=headers)
    try:
        with urllib.request.urlopen(wanted, timeout=PATIENCE) as answer:
            return Response(answer.status, answer.read(), answer.headers)
    except urllib.error.HTTPError as error:
        return Response(error.code, error.read(), error.headers)


def test_a_body_above_the_limit_is_refused_before_it_is_sent(instance: Instance) -> None:
    for headers in ({"Content-Length": "5000000000"}, {"Transfer-Encoding": "chunked"}):
        connection = http.client.HTTPConnection("127.0.0.1", instance.port, timeout=PATIENCE)
        connection.putrequest("POST", "/time")
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        try:
            for _ in range(200 if "Transfer-Encoding" in headers else 0):
                connection.send(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
            answer = connection.getresponse()
            assert (answer.status, json.loads(answer.read())["error"]["code"]) == (413, Code.MESSAGE_TOO_LARGE)
        except (BrokenPipeError, ConnectionResetError):
            assert "Transfer-Encoding" in headers  # cut off in the middle of it


def test_a_large_form_holds_up_nobody(instance: Instance) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", instance.port, timeout=PATIENCE)
    body = b"a=1&" * 600_000
    connection.request("POST", "/time", body, {"Content-Type": "application/x-www-form-urlencoded"})
    gateway = psutil.Process(instance.pids()["gateway-1"])
    before = sum(gateway.cpu_times()[:2])
    urllib.request.urlopen(f"{instance.url}/time", timeout=PATIENCE).read()
    worked = sum(gateway.cpu_times()[:2]) - before

    assert connection.getresponse().status == 405
    assert worked < 0.5  # seconds in which it does nothing for others


def test_a_form_of_the_pages_is_refused_before_its_fields_take_memory(instance: Instance, key: str) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded", "Cookie": "csrftoken=" + "a" * 32}
    statuses = {}
    for path, size in (("/sign-in/", 300_000), ("/sign-in/", 30_000), ("/admin/login/", 300_000)):
        connection = http.client.HTTPConnection("127.0.0.1", instance.port, timeout=PATIENCE)
        connection.request("POST", path, b"a=" + b"%41" * (size // 3), form)
        statuses[path, size] = connection.getresponse().status
    assert statuses == {("/sign-in/", 300_000): 413, ("/sign-in/", 30_000): 403, ("/admin/login/", 300_000): 413}


@pytest.mark.parametrize(
    ("prefix", "page", "status"), [("/keys", "/admin/login/", 404), ("/channels", "/sign-in/", 405)]
)
def test_no_header_makes_a_form_of_the_pages_look_like_one_of_the_api(
    instance: Instance, prefix: str, page: str, status: int
) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded", "Cookie": "csrftoken=" + "a" * 32}
    connection = http.client.HTTPConnection("127.0.0.1", instance.port, timeout=PATIENCE)
    connection.request("POST", prefix + page, b"a=" + b"%41" * 100_000, form | {"Daphne-Root-Path": prefix})

    assert connection.getresponse().status == status


def test_a_query_of_too_many_fields_is_a_bad_request(instance: Instance, key: str) -> None:
    path = "/channels/lobby/messages?" + "&".join(["a"] * 1500)

    assert request(instance, key, "GET", path).status == 400
