"""The event that a request becomes (payload format 2.0)."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integrations.lambda_runtime.endpoints.event import Arrival, build_event, encode_event, is_text
from integrations.lambda_runtime.http_message import HttpRequest

ARRIVAL = Arrival(url_id="filter", request_id="id-1", trace_id="Root=1-2-3", epoch_ms=1_583_348_638_390, port=9100)


def event_of(**options: Any) -> dict[str, Any]:
    return build_event(HttpRequest(**{"method": "POST", "target": "/", "headers": (), **options}), ARRIVAL)


def test_it_has_the_documented_shape() -> None:
    headers = (("host", "127.0.0.1:9100"), ("user-agent", "agent"), ("content-type", "text/plain"))
    event = event_of(target="/my/path?a=1", headers=headers, body=b"Hello", source_ip="10.0.0.1")
    assert event == {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/my/path",
        "rawQueryString": "a=1",
        "headers": {
            "host": "127.0.0.1:9100",
            "user-agent": "agent",
            "content-type": "text/plain",
            "x-amzn-trace-id": "Root=1-2-3",
            "x-forwarded-for": "10.0.0.1",
            "x-forwarded-port": "9100",
            "x-forwarded-proto": "http",
        },
        "queryStringParameters": {"a": "1"},
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "filter",
            "domainName": "127.0.0.1:9100",
            "domainPrefix": "filter",
            "http": {
                "method": "POST",
                "path": "/my/path",
                "protocol": "HTTP/1.1",
                "sourceIp": "10.0.0.1",
                "userAgent": "agent",
            },
            "requestId": "id-1",
            "routeKey": "$default",
            "stage": "$default",
            "time": "04/Mar/2020:19:03:58 +0000",
            "timeEpoch": 1_583_348_638_390,
        },
        "body": "Hello",
        "isBase64Encoded": False,
    }


def test_what_a_request_does_not_have_is_left_out() -> None:
    event = event_of()
    assert not {"body", "cookies", "queryStringParameters"} & event.keys()
    assert event["isBase64Encoded"] is False


def test_repeated_headers_are_joined_by_commas() -> None:
    assert event_of(headers=(("accept", "a"), ("accept", "b")))["headers"]["accept"] == "a,b"


def test_repeated_parameters_are_joined_by_commas_and_decoded() -> None:
    event = event_of(target="/?q=foo&q=%2Fbar&empty=&plus=a+b")
    assert event["queryStringParameters"] == {"q": "foo,/bar", "empty": "", "plus": "a b"}
    assert event["rawQueryString"] == "q=foo&q=%2Fbar&empty=&plus=a+b"


def test_the_raw_path_stays_encoded() -> None:
    assert event_of(target="/a%2Fb")["rawPath"] == "/a%2Fb"


def test_cookies_get_a_list_of_their_own() -> None:
    event = event_of(headers=(("cookie", "a=1; b=2"), ("cookie", "c=3"), ("connection", "close")))
    assert event["cookies"] == ["a=1", "b=2", "c=3"]
    assert not {"cookie", "connection"} & event["headers"].keys()


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("application/json", True),
        ("Application/JSON; charset=utf-8", True),
        ("application/cloudevents+json", True),
        ("text/html", True),
        ("application/xml", True),
        ("application/x-www-form-urlencoded", False),
        ("multipart/form-data; boundary=x", False),
        ("application/x-msgpack", False),
        ("", False),
    ],
)
def test_only_text_arrives_as_text(content_type: str, expected: bool) -> None:
    assert is_text(content_type) is expected


@settings(deadline=None)
@given(st.binary(min_size=1), st.sampled_from(["application/json", "application/octet-stream", ""]))
def test_any_body_arrives_whole(body: bytes, content_type: str) -> None:
    event = event_of(headers=(("content-type", content_type),), body=body)
    arrived = base64.b64decode(event["body"]) if event["isBase64Encoded"] else event["body"].encode()
    assert arrived == body


@settings(deadline=None)
@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=255)))
def test_any_target_makes_an_event_that_is_json(target: str) -> None:
    request = HttpRequest(method="GET", target=f"/{target}", headers=())
    assert json.loads(encode_event(request, ARRIVAL))["rawPath"] == f"/{target}".partition("?")[0]


def test_a_query_of_a_thousand_and_one_parameters_is_refused() -> None:
    with pytest.raises(ValueError, match="fields"):
        event_of(target="/?" + "&".join(["a=1"] * 1_001))
