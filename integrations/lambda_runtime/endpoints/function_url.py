"""The Function URL: each request becomes an invocation of the function, whose outcome becomes the response."""

from __future__ import annotations

import os
import time
import uuid

from integrations.lambda_runtime import limits
from integrations.lambda_runtime.endpoints import event, response
from integrations.lambda_runtime.execution.invocation import Failed, Invocation
from integrations.lambda_runtime.execution.invoker import Invoker
from integrations.lambda_runtime.execution.pool import Throttled
from integrations.lambda_runtime.http_message import HttpRequest, HttpResponse
from integrations.lambda_runtime.log import Log


class FunctionUrl:
    """Answers any request by one invocation, at most `limits.MAX_PAYLOAD_BYTES` in either direction."""

    def __init__(self, invoker: Invoker, lines: Log) -> None:
        self._invoker = invoker
        self._log = lines
        self.port = 0  # known once the server listens

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Invoke the function and answer by the rules of "Invoking Lambda function URLs"."""
        arrival = self._arrival()
        answer = await self._answer(request, arrival)
        ids = (("x-amzn-requestid", arrival.request_id), ("x-amzn-trace-id", arrival.trace_id))
        return HttpResponse(status=answer.status, headers=(*answer.headers, *ids), body=answer.body)

    def refuse(self, status: int) -> HttpResponse:
        """Return the answer to a request that never becomes an invocation."""
        if status == 413:
            return response.request_too_large(limits.MAX_PAYLOAD_BYTES)
        named = {503: "ServiceUnavailableException", 500: "InternalFailure"}.get(status, "BadRequest")
        return response.error_response(status, '{"Message":null}', error_type=named)

    async def _answer(self, request: HttpRequest, arrival: event.Arrival) -> HttpResponse:
        try:
            payload = event.encode_event(request, arrival)
        except ValueError:
            return self.refuse(400)
        if len(payload) > limits.MAX_PAYLOAD_BYTES:
            return self.refuse(413)
        invocation = Invocation(request_id=arrival.request_id, trace_id=arrival.trace_id, event=payload)
        try:
            outcome = await self._invoker.invoke(invocation)
        except Throttled:
            return response.throttled()
        if isinstance(outcome, Failed):
            return response.function_error()
        try:
            return response.interpret(outcome.payload)
        except response.MalformedAnswer as error:
            self._log.say(f"RequestId: {arrival.request_id} Error: {error}")
            return response.function_error()

    def _arrival(self) -> event.Arrival:
        now_ms = time.time_ns() // 1_000_000
        return event.Arrival(
            url_id=self._invoker.function.name,
            request_id=str(uuid.uuid4()),
            trace_id=draw_trace_id(now_ms),
            epoch_ms=now_ms,
            port=self.port,
        )


def draw_trace_id(now_ms: int) -> str:
    """Return a trace id in AWS's form, of a trace that nobody keeps."""
    return f"Root=1-{now_ms // 1000:08x}-{os.urandom(12).hex()};Sampled=0"
