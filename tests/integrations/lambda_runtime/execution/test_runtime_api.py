"""The Runtime API's paths and states, without a process behind it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field

from integrations.lambda_runtime.execution.invocation import Failed, Invocation, Outcome, Returned
from integrations.lambda_runtime.execution.runtime_api import MAX_ANSWER_BYTES, RuntimeApi
from integrations.lambda_runtime.http_message import HttpRequest, HttpResponse

VERSION = "/2018-06-01/runtime"


@dataclass
class Notes:
    """A listener that remembers what it was told."""

    ready: int = 0
    delivered: list[Invocation] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    init_errors: list[str] = field(default_factory=list)

    def on_ready(self) -> None:
        self.ready += 1

    def on_delivered(self, invocation: Invocation) -> tuple[str, int]:
        self.delivered.append(invocation)
        return "arn:aws:lambda:x", 1_542_409_706_888

    def on_finished(self, invocation: Invocation, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    def on_init_error(self, error_type: str) -> None:
        self.init_errors.append(error_type)


def invocation(request_id: str = "id-1") -> Invocation:
    return Invocation(request_id=request_id, trace_id="Root=1", event=b'{"a":1}')


async def ask_next(api: RuntimeApi) -> HttpResponse:
    return await api.handle(HttpRequest(method="GET", target=f"{VERSION}/invocation/next", headers=()))


async def post(api: RuntimeApi, path: str, body: bytes = b"null", error_type: str = "") -> HttpResponse:
    headers = (("lambda-runtime-function-error-type", error_type),) if error_type else ()
    return await api.handle(HttpRequest(method="POST", target=VERSION + path, headers=headers, body=body))


async def test_an_invocation_comes_with_the_documented_headers() -> None:
    notes = Notes()
    api = RuntimeApi(notes)
    api.offer(invocation())
    answer = await ask_next(api)
    assert (answer.status, answer.body, notes.ready) == (200, b'{"a":1}', 1)
    assert dict(answer.headers) == {
        "content-type": "application/json",
        "lambda-runtime-aws-request-id": "id-1",
        "lambda-runtime-deadline-ms": "1542409706888",
        "lambda-runtime-invoked-function-arn": "arn:aws:lambda:x",
        "lambda-runtime-trace-id": "Root=1",
    }


async def test_a_runtime_that_asks_first_gets_the_next_offer() -> None:
    api = RuntimeApi(Notes())
    waiting = asyncio.create_task(ask_next(api))
    await asyncio.sleep(0)
    api.offer(invocation())
    assert (await waiting).body == b'{"a":1}'


async def test_an_offer_survives_a_runtime_that_hangs_up_at_that_moment() -> None:
    api = RuntimeApi(Notes())
    waiting = asyncio.create_task(ask_next(api))
    await asyncio.sleep(0)
    api.offer(invocation())
    waiting.cancel()
    await asyncio.wait([waiting])
    assert (await ask_next(api)).status == 200


async def test_a_runtime_that_asks_twice_is_answered_at_its_later_request() -> None:
    api = RuntimeApi(Notes())
    first, second = asyncio.create_task(ask_next(api)), asyncio.create_task(ask_next(api))
    await asyncio.sleep(0)
    api.offer(invocation())
    assert (await second).status == 200
    await asyncio.wait([first])
    assert first.cancelled()


async def test_an_answer_is_taken_once_and_only_for_its_own_request() -> None:
    notes = Notes()
    api = RuntimeApi(notes)
    api.offer(invocation())
    await ask_next(api)
    assert (await post(api, "/invocation/other/response")).status == 400
    assert (await post(api, "/invocation/id-1/response", b'"ok"')).status == 202
    assert (await post(api, "/invocation/id-1/response", b'"again"')).status == 400
    assert notes.outcomes == [Returned(payload=b'"ok"')]


async def test_an_error_is_known_by_its_type_and_never_by_its_message() -> None:
    notes = Notes()
    api = RuntimeApi(notes)
    for number, error_type in enumerate(["", "Function.Custom", "<script>"]):
        api.offer(invocation(f"id-{number}"))
        await ask_next(api)
        body = json.dumps({"errorType": "ValueError", "errorMessage": "secret"}).encode()
        assert (await post(api, f"/invocation/id-{number}/error", body, error_type)).status == 202
    types = [outcome.error_type for outcome in notes.outcomes if isinstance(outcome, Failed)]
    assert types == ["ValueError", "Function.Custom", "Runtime.Unknown"]


async def test_an_answer_above_the_limit_is_refused_and_fails_the_call() -> None:
    notes = Notes()
    api = RuntimeApi(notes)
    api.offer(invocation())
    await ask_next(api)
    assert (await post(api, "/invocation/id-1/response", b"x" * (MAX_ANSWER_BYTES + 1))).status == 413
    assert isinstance(notes.outcomes[0], Failed)
    assert notes.outcomes[0].error_type == "Function.ResponseSizeTooLarge"


async def test_an_init_error_is_possible_only_during_init() -> None:
    notes = Notes()
    api = RuntimeApi(notes)
    assert (await post(api, "/init/error", b"{}", "Runtime.ImportModuleError")).status == 202
    api.offer(invocation())
    await ask_next(api)
    assert (await post(api, "/init/error", b"{}", "Runtime.Late")).status == 403
    assert notes.init_errors == ["Runtime.ImportModuleError"]


async def test_other_paths_do_not_exist() -> None:
    api = RuntimeApi(Notes())
    assert (await post(api, "/invocation/../../etc/response")).status == 404
    assert (await post(api, "/extension/register")).status == 404
    request = HttpRequest(method="DELETE", target=f"{VERSION}/invocation/next", headers=())
    assert (await api.handle(request)).status == 404
