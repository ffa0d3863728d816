"""Revoking tokens: by REST with the key that issued them, and by command."""

from __future__ import annotations

import base64
import json
import time
from io import StringIO
from typing import Any

import msgspec
import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from integrations.access import keys
from integrations.access.keys import NewKey
from integrations.access.revocations import RevocationTarget
from integrations.models import ApiKey, Revocation
from rooms.errors import ChatError, Code
from tests.integrations.revoking import ANYTHING, ask, token_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def new() -> NewKey:
    return keys.create(ANYTHING)


# --- The endpoint -----------------------------------------------------------------------------------------


def test_each_target_gets_its_result_and_one_that_makes_no_sense_fails_alone(new: NewKey) -> None:
    before = time.time() * 1000
    answer = ask(new, "clientId:alice", "invalidType:abc", "channel:chat:1")
    body = answer.json()
    assert (answer.status_code, body["successCount"], body["failureCount"]) == (201, 2, 1)
    first, wrong, last = body["results"]
    assert (first["target"], last["target"]) == ("clientId:alice", "channel:chat:1")
    assert "error" not in first
    assert before - 1 <= first["appliesAt"] <= first["issuedBefore"] <= time.time() * 1000 + 1
    assert (wrong["target"], wrong["error"]["statusCode"], wrong["error"]["code"]) == ("invalidType:abc", 400, 40003)
    assert set(wrong) == {"target", "error"}
    assert [(row.value, row.created_by) for row in Revocation.objects.order_by("id")] == [
        ("alice", f"key {new.row.name}"),
        ("chat:1", f"key {new.row.name}"),
    ]


def test_with_a_margin_it_applies_in_thirty_seconds_to_tokens_issued_before_the_given_moment(new: NewKey) -> None:
    now = int(time.time() * 1000)
    before = now - 20 * 60 * 1000
    (result,) = ask(new, "clientId:alice", issuedBefore=before, allowReauthMargin=True).json()["results"]
    assert result["issuedBefore"] == before
    assert now + 29_000 < result["appliesAt"] < now + 60_000


def test_only_the_key_itself_revokes_what_it_issued(new: NewKey) -> None:
    other = keys.create(ANYTHING)

    def error_of(answer: Any) -> tuple[int, int]:
        return answer.status_code, answer.json()["error"]["code"]

    assert error_of(ask(new, "clientId:a", key=other.text)) == (401, Code.INVALID_CREDENTIALS)
    assert error_of(ask(new, "clientId:a", key=f"{new.row.name}:guess")) == (401, Code.INVALID_CREDENTIALS)
    path = f"/keys/{new.row.name}/revokeTokens"
    bearer = {"Authorization": "Bearer " + base64.b64encode(token_of(new).encode()).decode()}
    assert error_of(Client().post(path, "{}", content_type="application/json", headers=bearer)) == (401, 40162)
    assert error_of(Client().post(path, '{"targets":["clientId:a"]}', content_type="application/json"))[0] == 401
    assert not Revocation.objects.exists()


@pytest.mark.parametrize(
    "body",
    [
        {"targets": []},
        {"targets": [f"clientId:{number}" for number in range(101)]},
        {"targets": "clientId:alice"},
        {},
        {"targets": ["clientId:a"], "issuedBefore": 32503680000000},
        {"targets": ["clientId:a"], "issuedBefore": 1},
        {"targets": ["clientId:a"], "issuedBefore": 10**17},
        {"targets": ["clientId:a"], "issuedBefore": "soon"},
    ],
)
def test_a_request_that_makes_no_sense_is_refused_whole(new: NewKey, body: Any) -> None:
    answer = ask(new, **body) if "targets" not in body else ask(new, **body | {"targets": body["targets"]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, Code.INVALID_PARAMETER)
    assert not Revocation.objects.exists()


@pytest.mark.parametrize("text", ["alice", "clientId:", ":x", "clientId:" + "x" * 256, "clientId:a\0b", "clientid:a"])
def test_what_is_no_target_is_refused(text: str) -> None:
    with pytest.raises(ChatError) as refused:
        RevocationTarget.parse(text)
    assert refused.value.code == Code.INVALID_PARAMETER


def test_no_more_are_taken_than_every_gateway_can_hold(new: NewKey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("integrations.access.revocations.REVOCATIONS_MAX", 2)
    assert ask(new, "clientId:a", "clientId:b").status_code == 201
    answer = ask(new, "clientId:c")
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, Code.TOO_MANY_PUBLISHES)
    assert "rotate" in answer.json()["error"]["message"]


def test_messagepack_is_spoken_too(new: NewKey) -> None:
    answer = Client().post(
        f"/keys/{new.row.name}/revokeTokens",
        msgspec.msgpack.encode({"targets": ["clientId:alice"]}),
        content_type="application/x-msgpack",
        headers={
            "Authorization": "Basic " + base64.b64encode(new.text.encode()).decode(),
            "Accept": "application/x-msgpack",
        },
    )
    assert msgspec.msgpack.decode(answer.content)["successCount"] == 1


# --- The command ------------------------------------------------------------------------------------------


def command(*arguments: str, stdin: str = "") -> Any:
    out = StringIO()
    call_command("apikey", *arguments, "--json", stdout=out, stderr=StringIO())
    return json.loads(out.getvalue())


def test_the_command_revokes_tokens_of_one_key_or_of_all(new: NewKey) -> None:
    keys.create(ANYTHING)
    assert len(command("revoke-tokens", "--key", new.row.name, "--client-id", "a", "--channel", "b")) == 2
    assert {row["key"] for row in command("revoke-tokens", "--client-id", "a")} == {
        row.name for row in ApiKey.objects.all()
    }


def test_the_command_revokes_a_token_that_it_is_given(new: NewKey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", StringIO(token_of(new) + "\n"))
    (row,) = command("revoke-tokens", "--token", "-")
    assert (row["key"], row["target"].partition(":")[0]) == (new.row.name, "tokenId")


def test_the_command_rotates_a_key(new: NewKey) -> None:
    text = command("rotate", new.row.name, "--overlap", "60")["key"]
    assert keys.find([new.row.name])[new.row.name].secret == keys.split_key(text)[1]


@pytest.mark.parametrize(
    "arguments",
    [
        ("revoke-tokens",),
        ("revoke-tokens", "--key", "no.key", "--client-id", "a"),
        ("revoke-tokens", "--client-id", ""),
        ("revoke-tokens", "--token", "nonsense"),
        ("rotate", "no.key"),
        ("rotate", "no.key", "--overlap", "-1"),
    ],
)
def test_the_command_says_what_is_wrong(arguments: tuple[str, ...]) -> None:
    with pytest.raises(CommandError):
        command(*arguments)
