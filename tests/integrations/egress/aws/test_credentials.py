"""AWS credentials: from where, how often, and what happens when they end or are not to be had."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

import pytest

from integrations.egress.addresses import AllowList
from integrations.egress.answers import Answer, CallFailed
from integrations.egress.aws import sts
from integrations.egress.aws.credential_cache import FAILURE_SECONDS, CredentialCache
from integrations.egress.aws.credentials import Ambient, CredentialStore
from integrations.egress.aws.signing import AwsCredentials
from integrations.egress.outgoing import Outgoing
from integrations.models import IntegrationRule
from integrations.secrets.sealing import seal
from tests.integrations import aws_verifier
from tests.integrations.aws_verifier import KEY, REGION, SECRET
from tests.integrations.receiver import Received, Receiver, Reply
from tests.patience import PATIENCE

OWN = AwsCredentials(access_key_id=KEY, secret_access_key=SECRET)
ROLE = "arn:aws:iam::123456789012:role/chat"


@asynccontextmanager
async def store_of(read: Callable[[], AwsCredentials | None] = lambda: OWN) -> AsyncIterator[CredentialStore]:
    outgoing = Outgoing(allowed=AllowList.parse(["127.0.0.0/8"]), max_connections=10)
    store = CredentialStore(outgoing, read=read)
    try:
        yield store
    finally:
        store.close()
        await outgoing.close()


def dated(seconds: float, key: str = KEY) -> AwsCredentials:
    ends = datetime.now(UTC) + timedelta(seconds=seconds)
    return AwsCredentials(access_key_id=key, secret_access_key=SECRET, session_token="t", expires_at=ends)


def granted(*, key: str = "ASIAROLE", seconds: float = 3600) -> str:
    ends = (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return (
        '<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>'
        f"<AccessKeyId>{key}</AccessKeyId><SecretAccessKey>role-secret</SecretAccessKey>"
        f"<SessionToken>role-token==</SessionToken><Expiration>{ends}</Expiration>"
        "</Credentials></AssumeRoleResult></AssumeRoleResponse>"
    )


class Clock:
    """time.monotonic, as the test moves it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000.0
        monkeypatch.setattr("integrations.egress.aws.credential_cache.time.monotonic", lambda: self.now)


# --- Kept -------------------------------------------------------------------------------------------------


async def test_a_thousand_calls_at_once_fetch_credentials_once() -> None:
    fetched = 0

    async def fetch() -> AwsCredentials:
        nonlocal fetched
        fetched += 1
        await asyncio.sleep(0)
        return OWN

    kept = CredentialCache(fetch, seconds=PATIENCE)
    found = await asyncio.gather(*[kept.get() for _ in range(1_000)])

    assert fetched == 1
    assert set(found) == {OWN}


async def test_credentials_are_renewed_before_they_end_and_nobody_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, gate = Clock(monkeypatch), asyncio.Event()
    gate.set()
    keys = iter(["first", "second"])

    async def fetch() -> AwsCredentials:
        await gate.wait()
        return dated(3600, next(keys))

    kept = CredentialCache(fetch, seconds=PATIENCE)
    await kept.get()
    clock.now += 3600 - 200
    gate.clear()
    assert (await kept.get()).access_key_id == "first"
    gate.set()
    async with asyncio.timeout(PATIENCE):
        while (await kept.get()).access_key_id != "second":
            await asyncio.sleep(0)


async def test_credentials_that_ended_are_not_used_though_no_others_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    answers: list[Any] = [dated(600), CallFailed("away")]

    async def fetch() -> AwsCredentials:
        found = answers.pop(0)
        if isinstance(found, CallFailed):
            raise found
        assert isinstance(found, AwsCredentials)
        return found

    kept = CredentialCache(fetch, seconds=PATIENCE)
    await kept.get()
    clock.now += 600
    with pytest.raises(CallFailed, match="away"):
        await kept.get()


async def test_a_failed_fetch_is_everybody_s_answer_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, tried = Clock(monkeypatch), 0

    async def fetch() -> AwsCredentials:
        nonlocal tried
        tried += 1
        raise CallFailed("No AWS credentials")

    kept = CredentialCache(fetch, seconds=PATIENCE)
    for _ in range(20):
        with pytest.raises(CallFailed, match="No AWS credentials"):
            await kept.get()
    assert tried == 1
    clock.now += FAILURE_SECONDS
    with pytest.raises(CallFailed):
        await kept.get()
    assert tried == 2


async def test_who_gives_up_leaves_the_fetching_to_the_others() -> None:
    gate = asyncio.Event()

    async def fetch() -> AwsCredentials:
        await gate.wait()
        return OWN

    kept = CredentialCache(fetch, seconds=PATIENCE)
    impatient, patient = asyncio.create_task(kept.get()), asyncio.create_task(kept.get())
    await asyncio.sleep(0)
    impatient.cancel()
    gate.set()

    assert await patient == OWN


async def test_a_fetch_that_hangs_ends_at_its_limit() -> None:
    kept = CredentialCache(lambda: asyncio.sleep(3600, OWN), seconds=0.05)

    with pytest.raises(CallFailed, match=r"No AWS credentials within 0\.05 seconds"):
        await kept.get()


@pytest.mark.parametrize("error", [ValueError("key-of-ours"), OSError(13, "key-of-ours"), LookupError("key-of-ours")])
async def test_whatever_goes_wrong_with_credentials_is_a_failed_call_that_names_no_secret(error: Exception) -> None:
    async def fetch() -> AwsCredentials:
        raise error

    kept = CredentialCache(fetch, seconds=PATIENCE)
    for _ in range(2):
        with pytest.raises(CallFailed, match="cannot be read") as caught:
            await kept.get()
        assert "key-of-ours" not in str(caught.value)


async def test_refused_credentials_are_fetched_anew_but_not_by_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, fetched = Clock(monkeypatch), 0

    async def fetch() -> AwsCredentials:
        nonlocal fetched
        fetched += 1
        return OWN

    kept = CredentialCache(fetch, seconds=PATIENCE)
    for _ in range(10):
        kept.refuse(await kept.get())
    assert fetched == 1
    clock.now += FAILURE_SECONDS + 1
    kept.refuse(OWN)
    await kept.get()
    assert fetched == 2


# --- Where from -------------------------------------------------------------------------------------------


async def test_a_rule_s_own_credentials_go_before_those_of_the_server() -> None:
    sealed = seal(json.dumps({"accessKeyId": "AKOWN", "secretAccessKey": "own", "sessionToken": "s"}))
    async with store_of() as store:
        found = await store.get(IntegrationRule(pk=1, sealed_credentials=sealed), region=REGION)

    assert found == AwsCredentials(access_key_id="AKOWN", secret_access_key="own", session_token="s")
    assert "own'" not in repr(found)


@pytest.mark.parametrize("sealed", [b"nonsense", b""])
async def test_damaged_credentials_of_a_rule_are_a_failed_call(sealed: bytes) -> None:
    async with store_of() as store:
        with pytest.raises(CallFailed, match="SECRET_KEY_FALLBACKS"):
            await store.get(IntegrationRule(pk=1, sealed_credentials=sealed), region=REGION)


async def test_no_credentials_anywhere_is_said_with_what_to_do() -> None:
    async with store_of(lambda: None) as store:
        with pytest.raises(CallFailed, match="AWS_ACCESS_KEY_ID") as caught:
            await store.get(IntegrationRule(pk=1), region=REGION)

    assert not caught.value.is_final


async def test_a_metadata_service_that_hangs_holds_nobody_longer_than_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("integrations.egress.aws.credentials.AWS_CREDENTIALS_SECONDS", 0.05)
    gate, asked = threading.Event(), 0

    def read() -> AwsCredentials:
        nonlocal asked
        asked += 1
        gate.wait(10)
        return OWN

    async with store_of(read) as store:
        for _ in range(3):
            with pytest.raises(CallFailed, match="No AWS credentials within"):
                await store.get(IntegrationRule(pk=1), region=REGION)
        gate.set()

    assert asked == 1


def test_the_environment_is_read_as_every_aws_tool_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")

    assert Ambient().read() == AwsCredentials(access_key_id=KEY, secret_access_key=SECRET, session_token="token")


def test_a_machine_without_credentials_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")

    assert Ambient().read() is None


# --- A role -----------------------------------------------------------------------------------------------


async def test_a_role_is_assumed_by_a_signed_call_and_used_until_it_ends(receiver: Receiver, settings: Any) -> None:
    settings.AWS_ENDPOINT_URL_STS = receiver.url

    def answer(request: Received) -> Reply:
        aws_verifier.verify(request, service="sts")
        return 200, granted()

    receiver.behaviour = answer
    rule = IntegrationRule(pk=1, role=ROLE, external_id="a b&c")
    async with store_of() as store:
        found = [await store.get(rule, region=REGION) for _ in range(3)]

    assert [one.access_key_id for one in found] == ["ASIAROLE"] * 3
    assert (found[0].secret_access_key, found[0].session_token) == ("role-secret", "role-token==")
    assert len(receiver.requests) == 1
    form = {name: values[0] for name, values in parse_qs(receiver.requests[0].body.decode()).items()}
    assert (form["Action"], form["RoleArn"], form["ExternalId"]) == ("AssumeRole", ROLE, "a b&c")


async def test_two_roles_and_two_external_ids_share_nothing(receiver: Receiver, settings: Any) -> None:
    settings.AWS_ENDPOINT_URL_STS = receiver.url
    receiver.behaviour = lambda request: (200, granted(key=f"ASIA{len(receiver.requests)}"))
    async with store_of() as store:
        found = [
            (await store.get(IntegrationRule(pk=1, role=role, external_id=external), region=REGION)).access_key_id
            for role, external in ((ROLE, ""), (ROLE, "xx"), (ROLE + "2", ""), (ROLE, ""))
        ]

    assert found == ["ASIA1", "ASIA2", "ASIA3", "ASIA1"]


async def test_a_role_that_may_not_be_assumed_says_what_sts_says(receiver: Receiver, settings: Any) -> None:
    settings.AWS_ENDPOINT_URL_STS = receiver.url
    error = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>not you</Message></Error></ErrorResponse>"
    receiver.behaviour = lambda request: (403, error)
    async with store_of() as store:
        with pytest.raises(CallFailed, match="The role cannot be assumed: AccessDenied: not you"):
            await store.get(IntegrationRule(pk=1, role=ROLE), region=REGION)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"<a/>",
        granted().replace("role-secret", "").encode(),
        granted().replace("<Expiration>", "<Expiration>x").encode(),
        b'<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><a>&c;</a>',
    ],
    # Not by their bytes, which hold the time: the workers of a run would not agree about the names of the tests.
    ids=["empty", "html", "other XML", "no secret", "no time", "entities"],
)
def test_an_answer_without_credentials_is_a_failed_call(body: bytes) -> None:
    with pytest.raises(CallFailed, match="STS answered"):
        sts.read(Answer(status=200, body=body))
