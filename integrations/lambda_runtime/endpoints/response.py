"""Turns a function's answer into an HTTP response: AWS's "Invoking Lambda function URLs", response payload format.

Where that page and AWS's observed behaviour differ we follow the behaviour: a JSON string is sent without
its quotes, other JSON without spaces, and a failed function answers with the bare text.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

import msgspec

from integrations.lambda_runtime.http_message import Headers, HttpResponse

JSON_TYPE = "application/json"
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")  # RFC 9110, "field-name"
FIELD_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*\Z")  # RFC 9110, "field-value": no line break, no NUL
# AWS renames what only its own edge may set ("x-amzn-remapped-").
REMAPPED = frozenset({"connection", "content-length", "date", "keep-alive", "server", "transfer-encoding", "upgrade"})


class MalformedAnswer(ValueError):
    """The function's answer is no valid HTTP response. The message is for the log, without the payload."""


def interpret(payload: bytes) -> HttpResponse:
    """Return the HTTP response that a function's answer stands for. Raises MalformedAnswer.

    An object with `statusCode` is a response; any other JSON is the body of a 200 of type application/json.
    """
    answer = _parse(payload)
    if isinstance(answer, dict) and "statusCode" in answer:
        return _from_object(answer)
    return HttpResponse(status=200, headers=(("content-type", JSON_TYPE),), body=_as_body(answer))


def error_response(status: int, body: str, *, error_type: str = "") -> HttpResponse:
    """Return an answer of the Function URL's own; `error_type` is AWS's exception, for X-Amzn-ErrorType."""
    named = (("x-amzn-ErrorType", error_type),) if error_type else ()
    return HttpResponse(status=status, headers=(("content-type", JSON_TYPE), *named), body=body.encode())


def function_error() -> HttpResponse:
    """Return what the caller sees of any failure in the function; the log says which it was."""
    return error_response(502, "Internal Server Error")


def throttled() -> HttpResponse:
    """Return the answer at the concurrency limit ("Lambda function scaling": requests above it are throttled)."""
    body = '{"Reason":"ConcurrentInvocationLimitExceeded","Type":"User","message":"Rate Exceeded."}'
    return error_response(429, body, error_type="TooManyRequestsException")


def request_too_large(limit: int) -> HttpResponse:
    """Return the answer to a request that is above the payload quota, itself or as an event."""
    body = f'{{"Message":"Request must be smaller than {limit} bytes for the InvokeFunction operation"}}'
    return error_response(413, body, error_type="RequestTooLargeException")


def _parse(payload: bytes) -> Any:
    try:
        return msgspec.json.decode(payload or b"null")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedAnswer("the answer is not JSON") from error


def _as_body(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else msgspec.json.encode(value)


def _from_object(answer: dict[str, Any]) -> HttpResponse:
    headers = [*_headers(answer.get("headers")), *_cookies(answer.get("cookies"))]
    if not any(name == "content-type" for name, _ in headers):
        headers.insert(0, ("content-type", JSON_TYPE))
    return HttpResponse(status=_status(answer["statusCode"]), headers=tuple(headers), body=_body(answer))


def _status(value: Any) -> int:
    # AWS takes "418" too.
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    if not re.fullmatch(r"[2-5][0-9]{2}", text):
        raise MalformedAnswer("statusCode is not a number from 200 to 599")
    return int(text)


def _headers(value: Any) -> Headers:
    if value is None:
        return ()
    if not isinstance(value, dict):
        raise MalformedAnswer("headers is not an object")
    return tuple(_header(name, item) for name, item in value.items())


def _header(name: str, value: Any) -> tuple[str, str]:
    if isinstance(value, bool):
        value = "true" if value else "false"
    if not isinstance(value, str | int | float) or not TOKEN.match(name) or not FIELD_VALUE.match(str(value)):
        raise MalformedAnswer("a header is not a name with a value of one line")
    lower = name.lower()
    return (f"x-amzn-remapped-{lower}" if lower in REMAPPED else lower), str(value).strip()


def _cookies(value: Any) -> Headers:
    if value is None:
        return ()
    is_list = isinstance(value, list)
    if not is_list or not all(isinstance(item, str) and FIELD_VALUE.match(item) for item in value):
        raise MalformedAnswer("cookies is not a list of strings of one line")
    return tuple(("set-cookie", item.strip()) for item in value)


def _body(answer: dict[str, Any]) -> bytes:
    body = answer.get("body")
    if body is None:
        return b""
    if answer.get("isBase64Encoded") is not True:
        return _as_body(body)
    try:
        return base64.b64decode(body, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise MalformedAnswer("isBase64Encoded is true and body is not base64") from error
