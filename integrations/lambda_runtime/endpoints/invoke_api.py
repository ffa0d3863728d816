"""The Invoke API of the one function: AWS's "Lambda API reference", Invoke, version 2015-03-31.

The body is the event and the answer is what the handler returned, both as they are. Signatures are not checked:
this listens on a developer's machine.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Collection
from urllib.parse import parse_qs, unquote

import msgspec

from integrations.lambda_runtime import limits
from integrations.lambda_runtime.endpoints import response
from integrations.lambda_runtime.endpoints.function_url import draw_trace_id
from integrations.lambda_runtime.execution.event_queue import EventQueue
from integrations.lambda_runtime.execution.invocation import Failed, Invocation
from integrations.lambda_runtime.execution.invoker import Invoker
from integrations.lambda_runtime.execution.pool import Throttled
from integrations.lambda_runtime.http_message import Headers, HttpRequest, HttpResponse

PREFIX = "/2015-03-31/functions/"
PATH = re.compile(re.escape(PREFIX) + r"([^/]{1,500})/invocations\Z")
LATEST = "$LATEST"
# A name, a partial ARN (account:function:name) or a whole one, each with or without a qualifier.
FUNCTION = re.compile(
    r"(?:arn:aws[a-z-]*:lambda:[a-z0-9-]+:)?(?:\d{12}:)?(?:function:)?([\w-]{1,140})(?::(\$LATEST|[\w-]{1,128}))?\Z",
    re.ASCII,
)


class InvokeApi:
    """Answers `POST /2015-03-31/functions/NAME/invocations`; `qualifiers` are the versions and aliases there are."""

    def __init__(self, invoker: Invoker, events: EventQueue, *, qualifiers: Collection[str] = ()) -> None:
        self._invoker = invoker
        self._events = events
        self._qualifiers = {LATEST, *qualifiers}

    @staticmethod
    def serves(request: HttpRequest) -> bool:
        """Tell whether a request is for this API rather than for the Function URL."""
        return request.path.startswith(PREFIX)

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Invoke the function as the headers say."""
        request_id = str(uuid.uuid4())
        answer = await self._answer(request, request_id)
        headers = (*answer.headers, ("x-amzn-requestid", request_id))
        return HttpResponse(status=answer.status, headers=headers, body=answer.body)

    async def _answer(self, request: HttpRequest, request_id: str) -> HttpResponse:
        match = PATH.match(request.path)
        if match is None or request.method != "POST":
            return _error(404, "UnknownOperationException", "The one operation here is Invoke.")
        named = FUNCTION.match(unquote(match[1]))
        if named is None:
            return _error(400, "ValidationException", "The function is a name, or an ARN.")
        asked = parse_qs(request.query).get("Qualifier", [""])[0]
        if asked and named[2] and asked != named[2]:
            return _error(400, "InvalidParameterValueException", "The derived qualifier is not the specified one.")
        qualifier = asked or named[2] or ""
        function = self._invoker.function
        if named[1] != function.name or (qualifier and qualifier not in self._qualifiers):
            arn = f"{function.arn.rpartition(':')[0]}:{named[1]}" + (f":{qualifier}" if qualifier else "")
            return _error(404, "ResourceNotFoundException", f"Function not found: {arn}")
        return await self._invoke(request, request_id, qualifier)

    async def _invoke(self, request: HttpRequest, request_id: str, qualifier: str) -> HttpResponse:
        kind = request.header("x-amz-invocation-type") or "RequestResponse"
        if kind not in ("RequestResponse", "Event", "DryRun"):
            return _error(400, "InvalidParameterValueException", "The type is RequestResponse, Event or DryRun.")
        if len(request.body) > (limit := limits.MAX_EVENT_BYTES if kind == "Event" else limits.MAX_PAYLOAD_BYTES):
            return response.request_too_large(limit)
        try:
            msgspec.json.decode(request.body or b"{}")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return _error(400, "InvalidRequestContentException", "Could not parse request body into json.")
        if kind == "DryRun":
            return HttpResponse(status=204)

        invocation = Invocation(
            request_id=request_id,
            trace_id=draw_trace_id(time.time_ns() // 1_000_000),
            event=request.body or b"{}",
            qualifier=qualifier,
        )
        if kind == "Event":
            return HttpResponse(status=202) if self._events.offer(invocation) else response.throttled()
        try:
            outcome = await self._invoker.invoke(invocation)
        except Throttled:
            return response.throttled()
        headers: Headers = (("content-type", response.JSON_TYPE), ("x-amz-executed-version", LATEST))
        if isinstance(outcome, Failed):
            headers = (*headers, ("x-amz-function-error", "Unhandled"))
            return HttpResponse(status=200, headers=headers, body=outcome.payload or _account(outcome, request_id))
        return HttpResponse(status=200, headers=headers, body=outcome.payload or b"null")


def _account(outcome: Failed, request_id: str) -> bytes:
    """Return AWS's account of a failure that the runtime could not report itself."""
    message = f"RequestId: {request_id} Error: {outcome.message or outcome.error_type}"
    return msgspec.json.encode({"errorType": outcome.error_type, "errorMessage": message})


def _error(status: int, error_type: str, message: str) -> HttpResponse:
    body = msgspec.json.encode({"Type": "User", "Message": message}).decode()
    return response.error_response(status, body, error_type=error_type)
