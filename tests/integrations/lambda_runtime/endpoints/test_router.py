"""A request's line tells the verdict and nothing of the message."""

from __future__ import annotations

import json
from typing import Any

import pytest

from integrations.lambda_runtime.endpoints.router import request_line, summary
from integrations.lambda_runtime.http_message import HttpRequest, HttpResponse


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"action": "accept"}, ["accept"]),
        ({"verdicts": [{"action": "reject"}, {"action": "accept"}, {"action": "accept"}]}, ["accept 2", "reject"]),
        ({"statusCode": 200, "body": '{"action": "hold"}'}, ["hold"]),
        ({"action": "a text of a message"}, []),
        ({"action": ["accept"]}, []),
        ({"verdicts": 1}, []),
        ({"verdicts": [1]}, []),
        ({"body": "no json"}, []),
        ([1], []),
        ("text", []),
    ],
)
def test_the_verdicts_of_an_answer_are_counted(body: Any, said: list[str]) -> None:
    assert summary(json.dumps(body).encode()) == said


def test_what_is_no_answer_says_nothing() -> None:
    assert summary(b"") == summary(b"{") == summary(b"\xff") == summary(b"[" * 200_000) == []


def test_a_requests_line_holds_no_query_body_or_header() -> None:
    request = HttpRequest(method="POST", target="/a?token=SECRET", headers=(("x", "SECRET"),), body=b"SECRET")
    answer = HttpResponse(status=200, headers=(("x-amzn-requestid", "id-1"),), body=b'{"action":"modify","x":"SECRET"}')
    line = request_line(request, answer, 0.0123)
    assert line.split("  ")[1:] == ["POST /a", "200", "12.3 ms", "id-1", "modify"]
