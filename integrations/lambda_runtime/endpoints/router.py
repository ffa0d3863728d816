"""The router gives each request to the Function URL, the Invoke API or the control path, and logs a line about it."""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import msgspec

from integrations.lambda_runtime.endpoints.control import Control
from integrations.lambda_runtime.endpoints.function_url import FunctionUrl
from integrations.lambda_runtime.endpoints.invoke_api import InvokeApi
from integrations.lambda_runtime.http_message import HttpRequest, HttpResponse
from integrations.lambda_runtime.log import Level, Log

MAX_SUMMARY_BYTES = 256 * 1024
ACTIONS = frozenset({"accept", "publish", "modify", "replace", "reject", "hold"})


class Router:
    """Handles every request of the HTTP server."""

    def __init__(self, url: FunctionUrl, invoke: InvokeApi, control: Control | None, lines: Log) -> None:
        self._url = url
        self._invoke = invoke
        self._control = control
        self._log = lines

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer a request, and log its line at the level REQUESTS."""
        began = time.perf_counter()
        if self._control is not None and self._control.serves(request):
            return self._control.handle(request)
        answer = await (self._invoke if self._invoke.serves(request) else self._url).handle(request)
        if self._log.level is Level.REQUESTS:
            self._log.say(request_line(request, answer, time.perf_counter() - began), level=Level.REQUESTS)
        return answer


def request_line(request: HttpRequest, answer: HttpResponse, seconds: float) -> str:
    """Return the line of one request: time, method, path, status, duration, id, and the verdicts in its answer."""
    headers = dict(answer.headers)
    parts = [
        f"{datetime.now(UTC):%H:%M:%S.%f}"[:-3],
        f"{request.method} {request.path[:200]}",
        str(answer.status),
        f"{seconds * 1000:.1f} ms",
        headers.get("x-amzn-requestid", ""),
    ]
    if "x-amz-function-error" in headers:
        parts.append("function error")
    return "  ".join([*parts, *summary(answer.body)])


def summary(body: bytes) -> list[str]:
    """Return the verdicts in a body with their number, such as `accept 2`, and nothing else of it."""
    if not body or len(body) > MAX_SUMMARY_BYTES:
        return []
    try:
        answer: Any = msgspec.json.decode(body)
        if isinstance(answer, dict) and isinstance(answer.get("body"), str):
            answer = msgspec.json.decode(answer["body"])  # by the Invoke API it is the whole response
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []
    verdicts = answer.get("verdicts", [answer]) if isinstance(answer, dict) else []
    actions = [one.get("action") for one in verdicts if isinstance(one, dict)] if isinstance(verdicts, list) else []
    counted = Counter(action for action in actions if isinstance(action, str) and action in ACTIONS)
    return [f"{action} {count}" if count > 1 else action for action, count in sorted(counted.items())]
