"""The HTTP response that a function's answer becomes."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integrations.lambda_runtime.endpoints.response import MalformedAnswer, interpret, throttled
from integrations.lambda_runtime.http_message import HttpResponse

JSON_HEADERS = (("content-type", "application/json"),)


def interpreted(answer: Any) -> HttpResponse:
    return interpret(json.dumps(answer).encode())


@pytest.mark.parametrize(
    ("payload", "body"),
    [
        (b'{"hello": "world"}', b'{"hello":"world"}'),
        (b'["hello", 3, true]', b'["hello",3,true]'),
        (b'"hello"', b"hello"),
        (b'"201"', b"201"),
        (b"3", b"3"),
        (b"3.1", b"3.1"),
        (b"true", b"true"),
        (b"null", b"null"),
        (b'{"body": "no status code"}', b'{"body":"no status code"}'),
    ],
)
def test_anything_without_a_status_code_is_the_body_of_a_200(payload: bytes, body: bytes) -> None:
    # The first seven were observed at AWS.
    assert interpret(payload) == HttpResponse(status=200, headers=JSON_HEADERS, body=body)


def test_an_object_with_a_status_code_is_the_response() -> None:
    answer = {
        "statusCode": 201,
        "headers": {"Content-Type": "text/plain", "My-Custom-Header": "Custom Value", "X-Number": 3, "X-Flag": True},
        "body": "grüße",
        "cookies": ["a=1; Max-Age=60", "b=2"],
    }
    assert interpreted(answer) == HttpResponse(
        status=201,
        headers=(
            ("content-type", "text/plain"),
            ("my-custom-header", "Custom Value"),
            ("x-number", "3"),
            ("x-flag", "true"),
            ("set-cookie", "a=1; Max-Age=60"),
            ("set-cookie", "b=2"),
        ),
        body="grüße".encode(),
    )


def test_a_status_code_may_be_text_and_the_body_may_be_missing() -> None:
    assert interpreted({"statusCode": "418"}) == HttpResponse(status=418, headers=JSON_HEADERS)


def test_a_body_that_is_no_string_is_sent_as_json() -> None:
    assert interpreted({"statusCode": 200, "body": {"a": [1, 2]}}).body == b'{"a":[1,2]}'


@settings(deadline=None)
@given(st.binary())
def test_a_base64_body_is_sent_as_bytes(body: bytes) -> None:
    answer = {"statusCode": 200, "body": base64.b64encode(body).decode(), "isBase64Encoded": True}
    assert interpreted(answer).body == body


def test_headers_of_the_edge_are_renamed() -> None:
    answer = interpreted({"statusCode": 200, "headers": {"Content-Length": "5", "Connection": "close"}})
    assert ("x-amzn-remapped-content-length", "5") in answer.headers
    assert ("x-amzn-remapped-connection", "close") in answer.headers


@pytest.mark.parametrize(
    "payload",
    [
        b"not json",
        b"NaN",
        b"\xff",
        b"[" * 5_000,
        *(
            json.dumps(answer).encode()
            for answer in [
                {"statusCode": "ok"},
                {"statusCode": 99},
                {"statusCode": 101},
                {"statusCode": 600},
                {"statusCode": True},
                {"statusCode": None},
                {"statusCode": 200, "headers": ["a"]},
                {"statusCode": 200, "headers": {"a": {"b": "c"}}},
                {"statusCode": 200, "headers": {"a": "b\r\nx-evil: 1"}},
                {"statusCode": 200, "headers": {"a b": "c"}},
                {"statusCode": 200, "cookies": "a=1"},
                {"statusCode": 200, "cookies": ["a=1\r\nx-evil: 1"]},
                {"statusCode": 200, "body": "not base64!", "isBase64Encoded": True},
                {"statusCode": 200, "body": 5, "isBase64Encoded": True},
            ]
        ),
    ],
)
def test_what_is_no_response_is_malformed(payload: bytes) -> None:
    with pytest.raises(MalformedAnswer):
        interpret(payload)


@settings(deadline=None)
@given(st.binary())
def test_no_payload_does_worse_than_malformed(payload: bytes) -> None:
    try:
        assert interpret(payload).status == 200
    except MalformedAnswer:
        pass


def test_the_limit_is_answered_in_the_words_of_aws() -> None:
    answer = throttled()
    assert answer.status == 429
    assert json.loads(answer.body) == {
        "Reason": "ConcurrentInvocationLimitExceeded",
        "Type": "User",
        "message": "Rate Exceeded.",
    }
    assert ("x-amzn-ErrorType", "TooManyRequestsException") in answer.headers
