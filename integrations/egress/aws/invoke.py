"""The Invoke API of Lambda: the request that carries a webhook, and what its answer would be over a Function URL. Pure.

A function gets the event of a Function URL (payload format 2.0) and may answer as one: the same handler serves both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import msgspec

from integrations.egress.answers import KEPT_HEADERS, Answer, CallFailed
from integrations.lambda_runtime.endpoints.event import Arrival, encode_event
from integrations.lambda_runtime.endpoints.response import MalformedAnswer, interpret
from integrations.lambda_runtime.http_message import HttpRequest

# Lambda's quotas for the payload of one call.
MAX_SYNC_BYTES = 6_291_456
MAX_EVENT_BYTES = 1_048_576
# An answer that has `statusCode` holds its body as a JSON string, where each character may be escaped.
ESCAPED = 6
ENVELOPE_BYTES = 4_096
# What Lambda says of the credentials, not of the call: worth another attempt with fresh ones.
ABOUT_CREDENTIALS = frozenset(
    {
        "ExpiredTokenException",
        "ExpiredToken",
        "InvalidSignatureException",
        "IncompleteSignatureException",
        "MissingAuthenticationTokenException",
        "UnrecognizedClientException",
        "InvalidClientTokenId",
    }
)
FUNCTION_FAILED_STATUS = 502  # what a Function URL says of a function that failed
ERROR_MAX_CHARACTERS = 300


@dataclass(frozen=True, kw_only=True)
class InvokeRequest:
    """A call of the Invoke API, but for its signature."""

    url: str
    body: bytes = field(repr=False)
    headers: dict[str, str]


def build(
    url: str, *, body: bytes, headers: Mapping[str, str], is_event: bool, request_id: str, now: datetime
) -> InvokeRequest:
    """Return the invocation for a webhook. Raises CallFailed where it is larger than Lambda takes."""
    request = HttpRequest(
        method="POST",
        target="/",
        headers=(("host", "invoke"), *((k.lower(), v) for k, v in headers.items())),
        body=body,
    )
    epoch_ms = int(now.timestamp() * 1000)
    arrival = Arrival(url_id="invoke", request_id=request_id, trace_id="", epoch_ms=epoch_ms, port=443)
    payload = encode_event(request, arrival)
    limit = MAX_EVENT_BYTES if is_event else MAX_SYNC_BYTES
    if len(payload) > limit:
        raise CallFailed(f"The call is larger than the {limit} bytes that Lambda takes.", is_final=True)
    kind = "Event" if is_event else "RequestResponse"
    return InvokeRequest(
        url=url, body=payload, headers={"content-type": "application/json", "x-amz-invocation-type": kind}
    )


def most_bytes(answer_max_bytes: int) -> int:
    """Return how many bytes of Lambda's answer may carry a function's answer of so many."""
    return answer_max_bytes * ESCAPED + ENVELOPE_BYTES


def read(answer: Answer, *, max_bytes: int) -> Answer:
    """Return a function's answer as its Function URL would give it. A failed function is a 502 with its error.

    Raises CallFailed where the function's answer has more than `max_bytes`.
    """
    if kind := answer.headers.get("x-amz-function-error"):
        return replace(
            answer, status=FUNCTION_FAILED_STATUS, problem=f"The function failed ({kind[:40]}){_what(answer.body)}."
        )
    if answer.status == 200:
        return _unwrapped(answer, max_bytes)
    if 200 <= answer.status < 300:
        return answer
    error = error_type(answer)
    said = f"Lambda answered HTTP {answer.status}{f' ({error})' if error else ''}{_what(answer.body)}."
    return replace(answer, problem=said)


def is_about_credentials(answer: Answer) -> bool:
    """Tell whether a call was refused because of what signed it."""
    return answer.status in (400, 401, 403) and error_type(answer) in ABOUT_CREDENTIALS


def error_type(answer: Answer) -> str:
    """Return the name of the exception that an AWS service answers with, "" if it names none."""
    # Some services add a namespace: "ExpiredTokenException:http://internal.amazon.com/..."
    return answer.headers.get("x-amzn-errortype", "").partition(":")[0].strip()[:80]


def _unwrapped(answer: Answer, max_bytes: int) -> Answer:
    try:
        response = interpret(answer.body)
    except MalformedAnswer as error:
        return replace(answer, status=FUNCTION_FAILED_STATUS, problem=f"The function's answer is unusable: {error}.")
    if len(response.body) > max_bytes:
        raise CallFailed(f"The function's answer is larger than {max_bytes} bytes.")
    kept = {name: value for name, value in response.headers if name in KEPT_HEADERS}
    return Answer(
        status=response.status,
        body=response.body,
        retry_after=kept.get("retry-after"),
        headers={**answer.headers, **kept},
    )


def _what(body: bytes) -> str:
    """Return what an error's JSON says, shortened, on one line."""
    try:
        found: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    if not isinstance(found, dict):
        return ""
    parts = (found.get("errorType"), found.get("errorMessage") or found.get("message") or found.get("Message"))
    said = ": ".join(part for part in parts if isinstance(part, str) and part)
    return f": {' '.join(said.split())[:ERROR_MAX_CHARACTERS].rstrip('.')}" if said else ""
