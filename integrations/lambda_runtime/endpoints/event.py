"""Turns an HTTP request into a Lambda event: AWS's "Invoking Lambda function URLs", request payload format 2.0."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from integrations.lambda_runtime.http_message import HttpRequest

Event = dict[str, Any]

# Types that AWS hands over as text; every other body arrives as base64.
TEXT_TYPES = frozenset(
    {"application/json", "application/javascript", "application/xml", "application/x-ndjson", "application/graphql"}
)
# `connection` never leaves the edge at AWS; `cookie` arrives as the event's `cookies`.
DROPPED_HEADERS = frozenset({"connection", "cookie", "keep-alive", "transfer-encoding", "upgrade"})
MAX_QUERY_PARAMETERS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """When and where a request arrived, and the ids that it was given."""

    url_id: str
    request_id: str
    trace_id: str
    epoch_ms: int
    port: int


def encode_event(request: HttpRequest, arrival: Arrival) -> bytes:
    """Return the event as the JSON that a runtime gets. Raises ValueError for too many query parameters."""
    return msgspec.json.encode(build_event(request, arrival))


def build_event(request: HttpRequest, arrival: Arrival) -> Event:
    """Return the event of a request. It has `cookies`, `queryStringParameters` and `body` only if there are any."""
    event: Event = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": request.path,
        "rawQueryString": request.query,
        "headers": _headers(request, arrival),
        "requestContext": _context(request, arrival),
        "isBase64Encoded": False,
    }
    if cookies := _cookies(request):
        event["cookies"] = cookies
    if request.query:
        event["queryStringParameters"] = _query_parameters(request.query)
    if request.body:
        event["body"], event["isBase64Encoded"] = _body(request)
    return event


def is_text(content_type: str) -> bool:
    """Tell whether a body of this type is handed over as text. Forms are not: AWS sends them as base64."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind.startswith("text/") or kind in TEXT_TYPES or kind.endswith(("+json", "+xml"))


def _headers(request: HttpRequest, arrival: Arrival) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in request.headers:
        if name in DROPPED_HEADERS:
            continue
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    headers["x-amzn-trace-id"] = arrival.trace_id
    headers["x-forwarded-for"] = request.source_ip
    headers["x-forwarded-port"] = str(arrival.port)
    headers["x-forwarded-proto"] = "http"
    return headers


def _cookies(request: HttpRequest) -> list[str]:
    pairs = (value.split(";") for name, value in request.headers if name == "cookie")
    return [cookie.strip() for cookies in pairs for cookie in cookies if cookie.strip()]


def _query_parameters(query: str) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_QUERY_PARAMETERS):
        parameters[name] = f"{parameters[name]},{value}" if name in parameters else value
    return parameters


def _body(request: HttpRequest) -> tuple[str, bool]:
    if is_text(request.header("content-type")):
        try:
            return request.body.decode(), False
        except UnicodeDecodeError:
            pass  # the type was wrong about its bytes: base64 keeps them whole
    return base64.b64encode(request.body).decode(), True


def _context(request: HttpRequest, arrival: Arrival) -> Event:
    moment = datetime.fromtimestamp(arrival.epoch_ms / 1000, UTC)
    return {
        "accountId": "anonymous",
        "apiId": arrival.url_id,
        "domainName": request.header("host"),
        "domainPrefix": arrival.url_id,
        "http": {
            "method": request.method,
            "path": request.path,
            "protocol": request.protocol,
            "sourceIp": request.source_ip,
            "userAgent": request.header("user-agent"),
        },
        "requestId": arrival.request_id,
        "routeKey": "$default",
        "stage": "$default",
        "time": f"{moment:%d/%b/%Y:%H:%M:%S +0000}",
        "timeEpoch": arrival.epoch_ms,
    }
