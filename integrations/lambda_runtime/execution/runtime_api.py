"""The Runtime API of one execution environment: AWS's "Lambda runtime API", version 2018-06-01."""

from __future__ import annotations

import asyncio
import re
import time

import msgspec

from integrations.lambda_runtime import limits
from integrations.lambda_runtime.execution.function import Function
from integrations.lambda_runtime.execution.invocation import (
    ErrorType,
    Failed,
    Invocation,
    Outcome,
    Returned,
    too_large,
)
from integrations.lambda_runtime.http_message import HttpRequest, HttpResponse
from integrations.lambda_runtime.log import Log

VERSION = "/2018-06-01/runtime"
INVOCATION_PATH = re.compile(VERSION + r"/invocation/([0-9a-zA-Z-]{1,64})/(response|error)\Z")
ERROR_TYPE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}\Z")
MAX_ANSWER_BYTES = limits.MAX_PAYLOAD_BYTES + limits.RESPONSE_SLACK_BYTES
# A larger body than any answer may have is still read, so that the runtime gets its 413 and not a reset.
MAX_BODY_BYTES = 2 * MAX_ANSWER_BYTES


class Delivery:
    """An invocation on its way through the runtime, which takes it and then answers."""

    def __init__(self, invocation: Invocation) -> None:
        loop = asyncio.get_running_loop()
        self.invocation = invocation
        self.taken: asyncio.Future[float] = loop.create_future()  # when, by the event loop's clock
        self.outcome: asyncio.Future[Outcome] = loop.create_future()


class RuntimeApi:
    """Hands one invocation at a time to the runtime and takes its answer."""

    def __init__(self, function: Function, lines: Log) -> None:
        self._function = function
        self._log = lines
        # Init is over: "" when the runtime asked for an invocation, or the type of the error that it reported.
        self.init: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._offers: asyncio.Queue[Delivery] = asyncio.Queue(maxsize=1)
        self._asking: asyncio.Task[object] | None = None
        self._running: Delivery | None = None

    def offer(self, invocation: Invocation) -> Delivery:
        """Give the runtime its next invocation, now or as soon as it asks."""
        delivery = Delivery(invocation)
        self._offers.put_nowait(delivery)
        return delivery

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
        if not self.init.done():
            self.init.set_result("")
        if self._asking is not None:
            self._asking.cancel()  # the runtime asks again: its earlier request is lost
        self._asking = asyncio.current_task()
        self._running = delivery = await self._offers.get()
        self._asking = None
        invocation = delivery.invocation
        self._log.start(invocation.request_id)
        delivery.taken.set_result(asyncio.get_running_loop().time())
        headers = (
            ("content-type", "application/json"),
            ("lambda-runtime-aws-request-id", invocation.request_id),
            ("lambda-runtime-deadline-ms", str(int((time.time() + self._function.timeout_seconds) * 1000))),
            ("lambda-runtime-invoked-function-arn", self._function.arn_of(invocation.qualifier)),
            ("lambda-runtime-trace-id", invocation.trace_id),
        )
        return HttpResponse(status=200, headers=headers, body=invocation.event)

    def _answer_finished(self, request: HttpRequest, request_id: str, *, is_error: bool) -> HttpResponse:
        delivery = self._running
        if delivery is None or delivery.invocation.request_id != request_id:
            return _error(400, "InvalidRequestID", "Invalid request ID")
        self._running = None
        if is_error:
            delivery.outcome.set_result(Failed(error_type=_error_type(request), payload=request.body))
        elif len(request.body) > MAX_ANSWER_BYTES:
            failed = too_large(request_id, MAX_ANSWER_BYTES)
            delivery.outcome.set_result(failed)
            return _error(413, "RequestEntityTooLarge", failed.message)
        else:
            delivery.outcome.set_result(Returned(payload=request.body))
        return _accepted()

    def _answer_init_error(self, request: HttpRequest) -> HttpResponse:
        if self.init.done():
            return _error(403, "InvalidStateTransition", "init is over: report the error of an invocation")
        self.init.set_result(_error_type(request))
        return _accepted()


def _error_type(request: HttpRequest) -> str:
    """Return the type that the runtime gave, in a header or in the body; never the message."""
    named = request.header("lambda-runtime-function-error-type")
    if not named:
        try:
            named = str(msgspec.json.decode(request.body, type=dict[str, object]).get("errorType", ""))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
    return named if ERROR_TYPE_NAME.match(named) else ErrorType.UNKNOWN


def _accepted() -> HttpResponse:
    return HttpResponse(status=202, headers=(("content-type", "application/json"),), body=b'{"status":"OK"}\n')


def _error(status: int, error_type: str, message: str) -> HttpResponse:
    body = msgspec.json.encode({"errorMessage": message, "errorType": error_type})
    return HttpResponse(status=status, headers=(("content-type", "application/json"),), body=body)
