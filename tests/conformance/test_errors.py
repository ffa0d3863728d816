"""What a client does wrong gets the documented error; the server, and the client if it may, go on."""

from __future__ import annotations

import base64
import json
import time
import urllib.error
import urllib.request
from typing import Any

import jwt
import pytest

from rooms.protocol.wire import Action
from tests.conformance.raw import RawClient
from tests.instance import Instance
from tests.patience import PATIENCE

CANARY = "canary-that-no-log-may-hold"
ZERO_WIDTH = "\u200b" * 64


def token(key: str, *, secret: str | None = None, lifetime: float = 60, rooms: str = "*") -> str:
    """Return a JWT as somebody's own server would make it."""
    name, _, right_secret = key.partition(":")
    now = time.time() - 3600
    claims = {"iat": now, "exp": time.time() + lifetime, "x-ably-capability": json.dumps({rooms: ["*"]})}
    return jwt.encode(claims, secret or right_secret, algorithm="HS256", headers={"kid": name})


def credentials(kind: str, key: str) -> dict[str, str]:
    name = key.partition(":")[0]
    return {
        "none": {},
        "wrong secret": {"key": f"{name}:{CANARY}"},
        "unknown key": {"key": f"no.such:{CANARY}"},
        "no key at all": {"key": CANARY},
        "bad signature": {"accessToken": token(key, secret="x" * 40)},
        "expired token": {"accessToken": token(key, lifetime=-60)},
        "no token at all": {"accessToken": CANARY},
    }[kind]


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("none", 40106),
        ("wrong secret", 40101),
        ("unknown key", 40130),
        ("no key at all", 40101),
        ("bad signature", 40144),
        ("expired token", 40142),
        ("no token at all", 40143),
    ],
)
async def test_wrong_credentials_are_told_what_is_wrong(instance: Instance, key: str, kind: str, code: int) -> None:
    shown = credentials(kind, key)
    async with RawClient.connected(instance.url, **shown) as client:
        answer = await client.expect(Action.ERROR)
        await client.wait_until_closed()
    assert (answer["error"]["code"], answer["error"]["statusCode"]) == (code, code // 100)
    assert rest(instance, "GET", "/channels/lobby/messages", shown)[1] == code


async def test_a_room_outside_the_capability_is_refused_and_the_others_go_on(instance: Instance, key: str) -> None:
    async with RawClient.connected(instance.url, accessToken=token(key, rooms="mine")) as client:
        await client.expect(Action.CONNECTED)
        await client.send(action=Action.ATTACH, channel="theirs")
        refusal = await client.expect(Action.ERROR)
        assert (refusal["channel"], refusal["error"]["code"]) == ("theirs", 40160)
        await client.send(action=Action.MESSAGE, channel="theirs", msgSerial=0, messages=[{"data": "x"}])
        assert (await client.expect(Action.NACK))["error"]["code"] == 40160
        await client.attach("mine")


@pytest.mark.parametrize(
    ("data", "code"),
    [("x" * 70_000, 40009), (ZERO_WIDTH, 42212), ("\0", 40013), ([[[[]]]] * 20_000, 40009)],
    ids=["70 KB", "zero-width", "NUL", "70 KB of JSON"],
)
async def test_a_message_that_may_not_be_is_refused_and_the_next_goes_through(
    instance: Instance, key: str, data: Any, code: int
) -> None:
    async with RawClient.connected(instance.url, key=key) as client:
        await client.expect(Action.CONNECTED)
        for serial, content in enumerate([data, "fine"]):
            await client.send(action=Action.MESSAGE, channel="errors", msgSerial=serial, messages=[{"data": content}])
        refusal = await client.expect(Action.NACK)
        assert (refusal["msgSerial"], refusal["error"]["code"]) == (0, code)
        assert (await client.expect(Action.ACK))["msgSerial"] == 1
    assert rest(instance, "POST", "/channels/errors/messages", {"key": key}, {"data": data})[1] == code


@pytest.mark.parametrize(
    "frame",
    ["{", "[]", "null", "[" * 100_000, '{"action":"x"}', '{"action":15,"messages":7}', b"\xc1\xff\x00noise" * 50],
    ids=["half an object", "a list", "null", "deep", "no number", "no list", "binary noise"],
)
@pytest.mark.parametrize("wire_format", ["json", "msgpack"])
async def test_noise_is_answered_and_the_connection_goes_on(
    instance: Instance, key: str, frame: str | bytes, wire_format: str
) -> None:
    async with RawClient.connected(instance.url, key=key, format=wire_format) as client:
        await client.socket.recv()
        await client.socket.send(frame)
        answer = await client.socket.recv()
        assert b"40000" in answer.encode() if isinstance(answer, str) else b"\xcd\x9c\x40" in answer
        await client.socket.send(frame)
        await client.socket.recv()


async def test_a_client_that_sends_nothing_but_noise_is_closed(instance: Instance, key: str) -> None:
    async with RawClient.connected(instance.url, key=key) as client:
        await client.expect(Action.CONNECTED)
        for _ in range(20):
            await client.socket.send("noise")
        assert await client.wait_until_closed() == 1003


@pytest.mark.parametrize("body", [b"{", b"", b"\xff\xfe", b'"x"', b"[1]"])
def test_a_body_that_is_no_message_is_refused(instance: Instance, key: str, body: bytes) -> None:
    status, code = rest(instance, "POST", "/channels/errors/messages", {"key": key}, body)
    assert (status, code) == (400, 40001)


def test_the_log_holds_no_credentials_query_strings_or_texts(instance: Instance, key: str) -> None:
    rest(instance, "POST", "/channels/errors/messages", {"key": key}, {"data": CANARY})
    rest(instance, "GET", "/no/such/place", {"key": key})
    log = "".join(path.read_text(errors="replace") for path in (instance.data / "logs").iterdir())
    for secret in (CANARY, key.partition(":")[2], "eyJ", "accessToken=", "key="):
        assert secret not in log


def rest(instance: Instance, method: str, path: str, shown: dict[str, str], body: Any = None) -> tuple[int, int | None]:
    """Return status and error code of a REST request with these credentials."""
    headers = {"Content-Type": "application/json"}
    if "key" in shown:
        headers["Authorization"] = "Basic " + base64.b64encode(shown["key"].encode()).decode()
    if "accessToken" in shown:
        headers["Authorization"] = "Bearer " + shown["accessToken"]
    data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(instance.url + path, data=data, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return response.status, None
    except urllib.error.HTTPError as error:
        code = error.headers.get("X-Ably-Errorcode")
        return error.code, int(code) if code else None


# --- Occupancy --------------------------------------------------------------------------------------------


def token_for(key: str, capability: dict[str, list[str]]) -> str:
    """Return a JWT with a capability."""
    name, _, secret = key.partition(":")
    claims = {"iat": time.time(), "exp": time.time() + 60, "x-ably-capability": json.dumps(capability)}
    return jwt.encode(claims, secret, algorithm="HS256", headers={"kid": name})


@pytest.mark.parametrize(
    ("address", "capability", "status", "code"),
    [
        ("/channels/room", {"*": ["subscribe"]}, 401, 40160),
        ("/channels/room", {"other": ["channel-metadata"]}, 401, 40160),
        ("/channels", {"room": ["channel-metadata"]}, 401, 40160),
        ("/channels?by=name", {"*": ["*"]}, 400, 40003),
        ("/channels?limit=0", {"*": ["*"]}, 400, 40003),
        ("/channels?limit=1001", {"*": ["*"]}, 400, 40003),
        ("/channels?prefix=%00", {"*": ["*"]}, 400, 40003),
        ("/channels/:room", {"*": ["*"]}, 400, 40010),
        ("/channels/room/presence", {"*": ["*"]}, 404, 40400),
        ("/channels/room/messages/abc", {"*": ["*"]}, 404, 40400),
    ],
)
def test_asking_who_is_where_gets_the_documented_error(
    instance: Instance, key: str, address: str, capability: dict[str, list[str]], status: int, code: int
) -> None:
    bearer = {"Authorization": f"Bearer {token_for(key, capability)}"}
    request = urllib.request.Request(f"{instance.url}{address}", headers=bearer)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=PATIENCE)
    assert (refused.value.code, json.load(refused.value)["error"]["code"]) == (status, code)


@pytest.mark.parametrize(
    ("params", "capability", "code"),
    [
        ({"occupancy": "people"}, {"*": ["*"]}, 40003),
        ({"occupancy": "metrics"}, {"*": ["subscribe", "publish"]}, 40160),
    ],
)
async def test_asking_to_be_told_gets_the_documented_error(
    instance: Instance, key: str, params: dict[str, str], capability: dict[str, list[str]], code: int
) -> None:
    async with RawClient.connected(instance.url, accessToken=token_for(key, capability)) as client:
        await client.send(action=Action.ATTACH, channel="room", params=params)
        assert (await client.expect(Action.ERROR))["error"]["code"] == code
