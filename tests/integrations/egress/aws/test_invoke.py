"""The Invoke API carries the event of a Function URL, and its answer means what the Function URL's would."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from integrations.egress.answers import Answer, CallFailed, explain
from integrations.egress.aws import endpoints, invoke
from integrations.lambda_runtime.endpoints.event import Arrival, build_event
from integrations.lambda_runtime.http_message import HttpRequest
from integrations.outbox import retry

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
HEADERS = {"content-type": "application/json", "webhook-id": "msg_1", "webhook-signature": "v1,abc", "X-Own": "ä"}


def build(body: bytes = b'{"messages":[]}', *, is_event: bool = False) -> invoke.InvokeRequest:
    return invoke.build("https://x/", body=body, headers=HEADERS, is_event=is_event, request_id="r", now=NOW)


def read(body: Any, *, status: int = 200, **headers: str) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    kept = {name.replace("_", "-"): value for name, value in headers.items()}
    return invoke.read(Answer(status=status, body=raw, headers=kept), max_bytes=1_000)


def test_a_function_gets_the_event_that_its_url_would_give_it() -> None:
    event = json.loads(build().body)
    lower = tuple((name.lower(), value) for name, value in HEADERS.items())
    request = HttpRequest(method="POST", target="/", headers=(("host", "invoke"), *lower), body=b'{"messages":[]}')
    arrival = Arrival(url_id="invoke", request_id="r", trace_id="", epoch_ms=int(NOW.timestamp() * 1000), port=443)

    assert event == build_event(request, arrival)
    assert event["version"] == "2.0"
    assert event["body"] == '{"messages":[]}'
    assert event["headers"]["webhook-signature"] == "v1,abc"
    assert event["requestContext"]["http"]["method"] == "POST"


@pytest.mark.parametrize(("is_event", "kind"), [(False, "RequestResponse"), (True, "Event")])
def test_whether_an_answer_is_waited_for_is_said_in_a_header(is_event: bool, kind: str) -> None:
    assert build(is_event=is_event).headers["x-amz-invocation-type"] == kind


@pytest.mark.parametrize(("is_event", "size"), [(False, 6_291_456), (True, 1_048_576)])
def test_what_lambda_would_not_take_is_not_sent(is_event: bool, size: int) -> None:
    with pytest.raises(CallFailed, match=f"larger than the {size} bytes") as caught:
        build(b"x" * size, is_event=is_event)

    assert caught.value.is_final


def test_an_answer_as_a_function_url_s_and_a_plain_one_mean_the_same() -> None:
    verdict = {"action": "accept"}
    plain = read(verdict)
    wrapped = read({"statusCode": 200, "body": json.dumps(verdict)})
    encoded = read({"statusCode": "200", "isBase64Encoded": True, "body": "eyJhY3Rpb24iOiAiYWNjZXB0In0="})

    assert json.loads(plain.body) == json.loads(wrapped.body) == json.loads(encoded.body) == verdict
    assert {plain.status, wrapped.status, encoded.status} == {200}


def test_a_function_may_answer_with_a_status_and_retry_after_of_its_own() -> None:
    answer = read({"statusCode": 429, "headers": {"Retry-After": 7}, "body": "slow down"})

    assert (answer.status, answer.retry_after, answer.body) == (429, "7", b"slow down")


def test_a_function_that_returns_nothing_answers_null() -> None:
    assert (read(b"").body, read(b"null").body) == (b"null", b"null")


def test_a_function_that_failed_is_a_failed_call_with_its_error() -> None:
    error = {"errorType": "KeyError", "errorMessage": "'body'\nis missing", "stackTrace": ["secret"]}
    answer = read(error, x_amz_function_error="Unhandled")

    assert retry.judge(answer.status) is retry.StatusMeaning.TEMPORARY
    assert explain(answer) == "The function failed (Unhandled): KeyError: 'body' is missing."


@pytest.mark.parametrize("body", [b"nonsense", b'{"statusCode": true}', b"[" * 30_000, b'{"statusCode": 99}', b"\xff"])
def test_an_answer_that_is_no_response_is_a_failed_call(body: bytes) -> None:
    answer = read(body)

    assert answer.status == 502
    assert explain(answer).startswith("The function's answer is unusable: ")


def test_a_large_answer_is_refused_whatever_it_is_wrapped_in() -> None:
    with pytest.raises(CallFailed, match="larger than 1000 bytes"):
        read({"statusCode": 200, "body": "x" * 1_001})


def test_the_largest_answer_fits_however_it_is_escaped() -> None:
    for character in ("\x01", "\U0001f600", "x", "ü"):
        wrapped = json.dumps({"statusCode": 200, "headers": {"content-type": "text/plain"}, "body": character * 8_000})
        assert len(wrapped) <= invoke.most_bytes(len(character.encode()) * 8_000)


def test_an_event_that_was_queued_has_no_answer() -> None:
    assert read(b"", status=202) == Answer(status=202, body=b"")


@pytest.mark.parametrize(
    ("status", "kind", "result"),
    [
        (404, "ResourceNotFoundException", retry.StatusMeaning.FINAL),
        (403, "AccessDeniedException", retry.StatusMeaning.FINAL),
        (429, "TooManyRequestsException", retry.StatusMeaning.TEMPORARY),
        (500, "ServiceException", retry.StatusMeaning.TEMPORARY),
        (502, "EC2ThrottledException", retry.StatusMeaning.TEMPORARY),
    ],
)
def test_what_lambda_refuses_is_told_by_its_name(status: int, kind: str, result: retry.StatusMeaning) -> None:
    answer = read({"message": "Not this way"}, status=status, x_amzn_errortype=f"{kind}:http://internal/")

    assert retry.judge(answer.status) is result
    assert explain(answer) == f"Lambda answered HTTP {status} ({kind}): Not this way."
    assert not invoke.is_about_credentials(answer)


@pytest.mark.parametrize("kind", ["ExpiredTokenException", "UnrecognizedClientException", "InvalidSignatureException"])
def test_a_refusal_because_of_the_credentials_is_known(kind: str) -> None:
    assert invoke.is_about_credentials(Answer(status=403, body=b"", headers={"x-amzn-errortype": kind}))


ARN = "arn:aws:lambda:us-west-2:123456789012:function:filter"


@pytest.mark.parametrize(
    ("region", "url", "function", "expected"),
    [
        ("eu-west-1", "https://abc.lambda-url.eu-central-1.on.aws/", "", "eu-west-1"),
        ("", "https://abc.lambda-url.eu-central-1.on.aws/", "", "eu-central-1"),
        ("", "https://abc.lambda-url.eu-central-1.on.aws.evil.example/", "", "sa-east-1"),
        ("", "", ARN, "us-west-2"),
        ("", "http://127.0.0.1:9200", "filter", "sa-east-1"),
    ],
)
def test_the_region_is_the_rule_s_the_address_s_or_the_default(
    region: str, url: str, function: str, expected: str
) -> None:
    assert endpoints.region_of(region=region, url=url, function=function, default="sa-east-1") == expected


def test_functions_are_invoked_at_their_region_s_endpoint_or_at_another() -> None:
    assert endpoints.invoke_url("filter", region="eu-central-1", qualifier="$LATEST") == (
        "https://lambda.eu-central-1.amazonaws.com/2015-03-31/functions/filter/invocations?Qualifier=%24LATEST"
    )
    assert endpoints.invoke_url(ARN, region="cn-north-1").startswith(
        "https://lambda.cn-north-1.amazonaws.com.cn/2015-03-31/functions/arn%3Aaws%3Alambda%3A"
    )
    assert endpoints.invoke_url("filter", region="x", base="http://127.0.0.1:9200/") == (
        "http://127.0.0.1:9200/2015-03-31/functions/filter/invocations"
    )
