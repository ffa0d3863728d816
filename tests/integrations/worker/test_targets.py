"""Calls at each kind of target, on a receiver that checks their signatures as AWS does."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from integrations.egress.addresses import AllowList
from integrations.egress.answers import Answer, CallFailed
from integrations.egress.aws.credentials import CredentialStore
from integrations.egress.aws.signing import AwsCredentials
from integrations.egress.outgoing import Outgoing
from integrations.models import EventKind, IntegrationRule, Invocation, TargetKind, When
from integrations.outbox.conclusions import ClaimedDelivery
from integrations.secrets.sealing import seal
from integrations.wire import signing
from integrations.worker.targets import Targets
from tests.integrations import aws_verifier
from tests.integrations.aws_verifier import KEY, REGION, SECRET, Refused
from tests.integrations.receiver import Received, Receiver, Reply

WEBHOOK_SECRET = signing.draw_secret()
TOKEN = "a+session/token=="
ARN = f"arn:aws:lambda:{REGION}:123456789012:function:filter"


def rule_of(receiver: Receiver, target: str, **more: Any) -> IntegrationRule:
    made = {"pk": 7, "name": "r", "events": [EventKind.MESSAGE], "region": REGION, "url": receiver.url}
    return IntegrationRule(**(made | {"target": target, "sealed_secret": seal(WEBHOOK_SECRET)} | more))


def owed() -> ClaimedDelivery:
    now = datetime.now(UTC)
    return ClaimedDelivery(
        id=1,
        rule_id=7,
        room_id=1,
        message_id=1,
        event=EventKind.MESSAGE,
        serial=3,
        webhook_id="msg_abc",
        payload='{"id":"m","name":"chat","data":"h\\u00ebllo","timestamp":1}',
        attempt=1,
        tries=1,
        created_at=now,
        deadline=now + timedelta(seconds=15),
        room="lobby",
        epoch="e",
    )


async def resolve_here(host: str, port: int) -> list[str]:
    return ["127.0.0.1"]


@asynccontextmanager
async def targets(*credentials: AwsCredentials) -> AsyncIterator[Targets]:
    outgoing = Outgoing(allowed=AllowList.parse(["127.0.0.0/8"]), max_connections=10, resolve=resolve_here)
    given = iter(credentials)
    store = CredentialStore(
        outgoing, read=lambda: next(given, AwsCredentials(access_key_id=KEY, secret_access_key=SECRET))
    )
    made = Targets(outgoing, credentials=store)
    try:
        yield made
    finally:
        await made.close()


async def call(made: Targets, rule: IntegrationRule, *, timeout: float = 5.0) -> Answer:
    return await made.call(rule, [owed()], app_id="app", now=datetime.now(UTC), timeout=timeout)


def check_webhook(headers: dict[str, str], body: bytes) -> None:
    signing.verify([WEBHOOK_SECRET], headers, body, now=datetime.now(UTC).timestamp())


async def test_an_endpoint_gets_a_signed_webhook_and_nothing_of_aws(receiver: Receiver) -> None:
    receiver.behaviour = lambda request: (200, {"action": "accept"})
    async with targets() as made:
        answer = await call(made, rule_of(receiver, TargetKind.HTTP, region="", when=When.BEFORE))

    [request] = receiver.requests
    assert json.loads(answer.body) == {"action": "accept"}
    check_webhook(request.headers, request.body)
    assert request.json["callback"]["token"]
    assert not {name for name in request.headers if name.startswith("x-amz") or name == "authorization"}


@pytest.mark.parametrize(
    "place", ["127.0.0.1:{}", "127.0.0.1:{}/", "127.0.0.1:{}/a%3Ab//c;d?x=%24y&a=1&a=0", "Lambda.Example:{}/x"]
)
async def test_a_function_url_with_iam_gets_a_call_that_aws_accepts_with_the_webhook_signature(
    receiver: Receiver, place: str
) -> None:
    signed: list[str] = []

    def answer(request: Received) -> Reply:
        signed.extend(aws_verifier.verify(request))
        check_webhook(request.headers, request.body)
        return 200, {"action": "accept"}

    receiver.behaviour = answer
    url = "http://" + place.format(receiver.port)
    async with targets() as made:
        found = await call(made, rule_of(receiver, TargetKind.FUNCTION_URL, url=url, headers={"x-own": "a  b"}))

    assert found.status == 200
    assert {"host", "content-type", "webhook-id", "webhook-signature", "x-amz-date", "x-own"} <= set(signed)


@pytest.mark.parametrize("function", ["filter", ARN, "123456789012:function:filter"])
@pytest.mark.parametrize("qualifier", ["", "live", "$LATEST"])
async def test_the_invoke_api_gets_a_call_that_aws_accepts(receiver: Receiver, function: str, qualifier: str) -> None:
    def answer(request: Received) -> Reply:
        aws_verifier.verify(request)
        event = request.json
        check_webhook(event["headers"], event["body"].encode())
        return 200, {"statusCode": 200, "body": '{"action":"accept"}'}

    receiver.behaviour = answer
    rule = rule_of(receiver, TargetKind.INVOKE, function=function, qualifier=qualifier)
    rule.url = f"http://127.0.0.1:{receiver.port}"
    async with targets() as made:
        found = await call(made, rule)

    [request] = receiver.requests
    assert (found.status, found.body) == (200, b'{"action":"accept"}')
    assert request.path.startswith("/2015-03-31/functions/" + function.replace(":", "%3A") + "/invocations")
    assert request.path.endswith({"": "invocations", "live": "?Qualifier=live"}.get(qualifier, "?Qualifier=%24LATEST"))


async def test_an_event_is_queued_by_lambda(receiver: Receiver) -> None:
    receiver.behaviour = lambda request: (202, "")
    rule = rule_of(receiver, TargetKind.INVOKE, function="filter", invocation=Invocation.EVENT)
    async with targets() as made:
        found = await call(made, rule)

    assert found.status == 202
    assert receiver.requests[0].headers["x-amz-invocation-type"] == "Event"


async def test_a_session_token_is_sent_and_signed(receiver: Receiver) -> None:
    session = AwsCredentials(access_key_id="ASIA", secret_access_key="s", session_token=TOKEN)

    def answer(request: Received) -> Reply:
        signed = aws_verifier.verify(request, secrets={"ASIA": "s"}, tokens={"ASIA": TOKEN})
        assert "x-amz-security-token" in signed
        return 200, ""

    receiver.behaviour = answer
    async with targets(session) as made:
        assert (await call(made, rule_of(receiver, TargetKind.FUNCTION_URL))).status == 200


async def test_the_verifier_refuses_a_changed_byte_another_path_another_secret_and_an_old_call(
    receiver: Receiver,
) -> None:
    """Else the tests above would show nothing."""
    async with targets() as made:
        await call(made, rule_of(receiver, TargetKind.FUNCTION_URL))
    [request] = receiver.requests
    aws_verifier.verify(request)

    changed = [
        replace(request, body=request.body[:-1] + b"]"),
        replace(request, path="/other"),
        replace(request, headers=request.headers | {"webhook-id": "msg_other"}),
        replace(request, headers=request.headers | {"x-amz-date": "20260101T000000Z"}),
    ]
    for other in changed:
        with pytest.raises(Refused):
            aws_verifier.verify(other)
    with pytest.raises(Refused, match="InvalidSignature"):
        aws_verifier.verify(request, secrets={KEY: "another"})
    with pytest.raises(Refused, match="InvalidSignature"):
        aws_verifier.verify(request, now=datetime.now(UTC) + timedelta(minutes=16))


async def test_credentials_that_ended_early_are_a_failed_call_that_is_tried_again(receiver: Receiver) -> None:
    refused = {"x-amzn-errortype": "ExpiredTokenException"}
    receiver.behaviour = lambda request: (403, {"message": "The security token is expired"}, refused)
    async with targets() as made:
        for target in (TargetKind.FUNCTION_URL, TargetKind.INVOKE):
            with pytest.raises(
                CallFailed, match=r"does not accept the credentials \(ExpiredTokenException\)"
            ) as caught:
                await call(made, rule_of(receiver, target, function="filter"))
            assert not caught.value.is_final


async def test_a_failed_function_is_an_answer_like_its_function_url_s(receiver: Receiver) -> None:
    failed = {"x-amz-function-error": "Unhandled"}
    receiver.behaviour = lambda request: (200, {"errorType": "E", "errorMessage": "m"}, failed)
    async with targets() as made:
        found = await call(made, rule_of(receiver, TargetKind.INVOKE, function="filter"))

    assert (found.status, found.problem) == (502, "The function failed (Unhandled): E: m.")


async def test_without_a_region_nothing_is_called(receiver: Receiver, settings: Any) -> None:
    settings.AWS_REGION = ""
    async with targets() as made:
        with pytest.raises(CallFailed, match="Which AWS region"):
            await call(made, rule_of(receiver, TargetKind.INVOKE, function="filter", region=""))

    assert receiver.connections == 0


async def test_a_secret_that_cannot_be_read_calls_nobody(receiver: Receiver) -> None:
    async with targets() as made:
        with pytest.raises(CallFailed, match="SECRET_KEY_FALLBACKS"):
            await call(made, rule_of(receiver, TargetKind.HTTP, sealed_secret=b"nonsense"))

    assert receiver.connections == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "0x7f000001", "[::1]"])
@pytest.mark.parametrize("target", TargetKind.values)
async def test_no_kind_of_target_reaches_a_private_address(receiver: Receiver, target: str, host: str) -> None:
    outgoing = Outgoing(allowed=AllowList(), max_connections=10)
    store = CredentialStore(outgoing, read=lambda: AwsCredentials(access_key_id=KEY, secret_access_key=SECRET))
    made = Targets(outgoing, credentials=store)
    try:
        with pytest.raises(CallFailed, match="not a public address"):
            await call(made, rule_of(receiver, target, url=f"http://{host}:{receiver.port}", function="filter"))
    finally:
        await made.close()

    assert receiver.connections == 0
