"""The Runtime API of one execution environment: AWS's "Lambda runtime API", version 2018-06-01.

It owns no process and no clock. `Listener` is told what the runtime does; `Environment` is the listener.
"""

from __future__ import annotations

import asyncio
import re
from typing import Protocol

import msgspec

from integrations.lambda_runtime import limits
from integrations.lambda_runtime.execution.invocation import ErrorType, Failed, Invocation, Outcome, Returned
from integrations.lambda_runtime.http_message import HttpRequest, HttpResponse

VERSION = "/2018-06-01/runtime"
INVOCATION_PATH = re.compile(VERSION + r"/invocation/([0-9a-zA-Z-]{1,64})/(response|error)\Z")
ERROR_TYPE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}\Z")
MAX_ANSWER_BYTES = limits.MAX_PAYLOAD_BYTES + limits.RESPONSE_SLACK_BYTES
# A larger body than any answer may have is still read, so that the runtime gets its 413 and not a reset.
MAX_BODY_BYTES = 2 * MAX_ANSWER_BYTES


class Listener(Protocol):
    """Who wants to know what a runtime does."""

    def on_ready(self) -> None:
        """The runtime asked for its first invocation: init is over."""

    def on_delivered(self, invocation: Invocation) -> tuple[str, int]:
        """The runtime gets an invocation; returns the function's ARN and the deadline in Unix milliseconds."""

    def on_finished(self, invocation: Invocation, outcome: Outcome) -> None:
        """The runtime answered."""

    def on_init_error(self, error_type: str) -> None:
        """The runtime could not load the handler, and is about to exit."""


class RuntimeApi:
    """Hands one invocation at a time to the runtime and takes its answer."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._ready = False
        self._offered: Invocation | None = None  # waits for the runtime to ask
        self._running: Invocation | None = None  # is with the runtime
        self._next: asyncio.Future[Invocation] | None = None  # the runtime waits for an invocation

    def offer(self, invocation: Invocation) -> None:
        """Give the runtime its next invocation, now or as soon as it asks."""
        assert self._offered is None, "one execution environment has one invocation at a time"
        if self._next is not None and not self._next.done():
            self._next.set_result(invocation)
        else:
            self._offered = invocation

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer one request of the runtime."""
        if request.method == "GET" and request.path == f"{VERSION}/invocation/next":
            return await self._answer_next()
        if request.method != "POST":
            return _error(404, "NotFound", "no such path in the Runtime API")
        if request.path == f"{VERSION}/init/error":
            return self._answer_init_error(request)
        if match := INVOCATION_PATH.match(request.path):
            return self._answer_finished(request, match[1], is_error=match[2] == "error")
        return _error(404, "NotFound", "no such path in the Runtime API")

    async def _answer_next(self) -> HttpResponse:
        if not self._ready:
            self._ready = True
            self._listener.on_ready()
        invocation = self._offered
        self._offered = None
        if invocation is None:
            invocation = await self._wait_for_an_offer()
        self._running = invocation
        arn, deadline_ms = self._listener.on_delivered(invocation)
        headers = (
            ("content-type", "application/json"),
            ("lambda-runtime-aws-request-id", invocation.request_id),
            ("lambda-runtime-deadline-ms", str(deadline_ms)),
            ("lambda-runtime-invoked-function-arn", arn),
            ("lambda-runtime-trace-id", invocation.trace_id),
        )
        return HttpResponse(status=200, headers=headers, body=invocation.event)

    async def _wait_for_an_offer(self) -> Invocation:
        if self._next is not None:
            self._next.cancel()  # the runtime asks again: its earlier request is lost
        offer: asyncio.Future[Invocation] = asyncio.get_running_loop().create_future()
        self._next = offer
        try:
            return await offer
        except asyncio.CancelledError:
            # The runtime hung up in the very moment of the offer: keep it for when it asks again.
            if offer.done() and not offer.cancelled():
                self._offered = offer.result()
            raise

    def _answer_finished(self, request: HttpRequest, request_id: str, *, is_error: bool) -> HttpResponse:
        invocation = self._running
        if invocation is None or invocation.request_id != request_id:
            return _error(400, "InvalidRequestID", "Invalid request ID")
        self._running = None
        if is_error:
            self._listener.on_finished(invocation, Failed(error_type=_error_type(request), payload=request.body))
        elif len(request.body) > MAX_ANSWER_BYTES:
            too_large = f"Exceeded maximum allowed payload size ({MAX_ANSWER_BYTES} bytes)."
            line = f"RequestId: {request_id} Error: {too_large}\n{ErrorType.TOO_LARGE.value}"
            failed = Failed(error_type=ErrorType.TOO_LARGE.value, message=too_large, line=line)
            self._listener.on_finished(invocation, failed)
            return _error(413, "RequestEntityTooLarge", too_large)
        else:
            self._listener.on_finished(invocation, Returned(payload=request.body))
        return _accepted()

    def _answer_init_error(self, request: HttpRequest) -> HttpResponse:
        if self._ready:
            return _error(403, "InvalidStateTransition", "init is over: report the error of an invocation")
        self._listener.on_init_error(_error_type(request))
        return _accepted()


def _error_type(request: HttpRequest) -> str:
    """The type that the runtime gave, in a header or in the body; never the message."""
    named = request.header("lambda-runtime-function-error-type")
    if not named:
        try:
            body = msgspec.json.decode(request.body, type=dict[str, object])
            named = str(body.get("errorType", ""))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            named = ""
    return named if ERROR_TYPE_NAME.match(named) else ErrorType.UNKNOWN.value


def _accepted() -> HttpResponse:
    return HttpResponse(status=202, headers=(("content-type", "application/json"),), body=b'{"status":"OK"}\n')


def _error(status: int, error_type: str, message: str) -> HttpResponse:
    body = msgspec.json.encode({"errorMessage": message, "errorType": error_type})
    return HttpResponse(status=status, headers=(("content-type", "application/json"),), body=body)
