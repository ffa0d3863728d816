"""Lambda's Invoke API: wraps a webhook into an invocation, and its result into the answer of a Function URL. Pure.

A function receives the event of a Function URL (payload format 2.0), so that one handler serves both ways.
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

# Lambda's limits for the payload of one call.
MAX_SYNC_BYTES = 6_291_456
MAX_EVENT_BYTES = 1_048_576
# A result with `statusCode` holds its body as a JSON string, in which each character may be escaped.
ESCAPED = 6
ENVELOPE_BYTES = 4_096
# Errors about the credentials, not the call: fresh credentials may help.
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
FUNCTION_FAILED_STATUS = 502  # the answer of a Function URL whose function failed
ERROR_MAX_CHARACTERS = 300


@dataclass(frozen=True, kw_only=True)
class InvokeRequest:
    """A request of the Invoke API, not signed yet."""

    url: str
    body: bytes = field(repr=False)
    headers: dict[str, str]


def build(
    url: str, *, body: bytes, headers: Mapping[str, str], is_event: bool, request_id: str, now: datetime
) -> InvokeRequest:
    """Return the request that invokes a function with a webhook. Raises CallFailed if it is too large for Lambda."""
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
    """Return the size limit of Lambda's answer for a limit of the function's answer inside it."""
    return answer_max_bytes * ESCAPED + ENVELOPE_BYTES


def read(answer: Answer, *, max_bytes: int) -> Answer:
    """Return the answer that a Function URL would give. A failed function becomes a 502 with its error.

    Raises CallFailed if the function's answer has more than `max_bytes`.
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
    """Return whether a call was refused because of its credentials."""
    return answer.status in (400, 401, 403) and error_type(answer) in ABOUT_CREDENTIALS


def error_type(answer: Answer) -> str:
    """Return the name of the exception in an AWS service's answer, "" without one."""
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
    """Return the message of an error's JSON, shortened, on one line."""
    try:
        found: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    if not isinstance(found, dict):
        return ""
    parts = (found.get("errorType"), found.get("errorMessage") or found.get("message") or found.get("Message"))
    said = ": ".join(part for part in parts if isinstance(part, str) and part)
    return f": {' '.join(said.split())[:ERROR_MAX_CHARACTERS].rstrip('.')}" if said else ""
