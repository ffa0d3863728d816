"""The Runtime API's paths and states, without a process behind it."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

from integrations.lambda_runtime.execution.function import Function, Runtime
from integrations.lambda_runtime.execution.invocation import Failed, Invocation, Returned
from integrations.lambda_runtime.execution.runtime_api import MAX_ANSWER_BYTES, RuntimeApi
from integrations.lambda_runtime.http_message import HttpRequest, HttpResponse
from integrations.lambda_runtime.log import Log

VERSION = "/2018-06-01/runtime"


FUNCTION = Function(path=Path("work.py"), runtime=Runtime.PYTHON, timeout_seconds=3)


def runtime_api() -> RuntimeApi:
    return RuntimeApi(FUNCTION, Log(lambda text: None))


def invocation(request_id: str = "id-1") -> Invocation:
    return Invocation(request_id=request_id, trace_id="Root=1", event=b'{"a":1}')


async def ask_next(api: RuntimeApi) -> HttpResponse:
    return await api.handle(HttpRequest(method="GET", target=f"{VERSION}/invocation/next", headers=()))


async def post(api: RuntimeApi, path: str, body: bytes = b"null", error_type: str = "") -> HttpResponse:
    headers = (("lambda-runtime-function-error-type", error_type),) if error_type else ()
    return await api.handle(HttpRequest(method="POST", target=VERSION + path, headers=headers, body=body))


async def test_an_invocation_comes_with_the_documented_headers() -> None:
    api = runtime_api()
    delivery = api.offer(invocation())
    assert not api.init.done() and not delivery.taken.done()
    answer = await ask_next(api)
    assert (answer.status, answer.body, api.init.result()) == (200, b'{"a":1}', "")
    assert delivery.taken.done()
    headers = dict(answer.headers)
    deadline_ms = int(headers.pop("lambda-runtime-deadline-ms"))
    assert 0 <= deadline_ms / 1000 - time.time() <= 3
    assert headers == {
        "content-type": "application/json",
        "lambda-runtime-aws-request-id": "id-1",
        "lambda-runtime-invoked-function-arn": "arn:aws:lambda:us-east-1:000000000000:function:work",
        "lambda-runtime-trace-id": "Root=1",
    }


async def test_a_runtime_that_asks_first_gets_the_next_offer() -> None:
    api = runtime_api()
    waiting = asyncio.create_task(ask_next(api))
    await asyncio.sleep(0)
    api.offer(invocation())
    assert (await waiting).body == b'{"a":1}'


async def test_an_offer_survives_a_runtime_that_hangs_up_at_that_moment() -> None:
    api = runtime_api()
    waiting = asyncio.create_task(ask_next(api))
    await asyncio.sleep(0)
    api.offer(invocation())
    waiting.cancel()
    await asyncio.wait([waiting])
    assert (await ask_next(api)).status == 200


async def test_a_runtime_that_asks_twice_is_answered_at_its_later_request() -> None:
    api = runtime_api()
    first, second = asyncio.create_task(ask_next(api)), asyncio.create_task(ask_next(api))
    await asyncio.sleep(0)
    api.offer(invocation())
    assert (await second).status == 200
    await asyncio.wait([first])
    assert first.cancelled()


async def test_an_answer_is_taken_once_and_only_for_its_own_request() -> None:
    api = runtime_api()
    delivery = api.offer(invocation())
    await ask_next(api)
    assert (await post(api, "/invocation/other/response")).status == 400
    assert (await post(api, "/invocation/id-1/response", b'"ok"')).status == 202
    assert (await post(api, "/invocation/id-1/response", b'"again"')).status == 400
    assert delivery.outcome.result() == Returned(payload=b'"ok"')


async def test_an_error_is_known_by_its_type_and_never_by_its_message() -> None:
    api = runtime_api()
    outcomes = []
    for number, error_type in enumerate(["", "Function.Custom", "<script>"]):
        delivery = api.offer(invocation(f"id-{number}"))
        await ask_next(api)
        body = json.dumps({"errorType": "ValueError", "errorMessage": "secret"}).encode()
        assert (await post(api, f"/invocation/id-{number}/error", body, error_type)).status == 202
        outcomes.append(delivery.outcome.result())
    types = [outcome.error_type for outcome in outcomes if isinstance(outcome, Failed)]
    assert types == ["ValueError", "Function.Custom", "Runtime.Unknown"]


async def test_an_answer_above_the_limit_is_refused_and_fails_the_call() -> None:
    api = runtime_api()
    delivery = api.offer(invocation())
    await ask_next(api)
    assert (await post(api, "/invocation/id-1/response", b"x" * (MAX_ANSWER_BYTES + 1))).status == 413
    outcome = delivery.outcome.result()
    assert isinstance(outcome, Failed)
    assert outcome.error_type == "Function.ResponseSizeTooLarge"


async def test_an_init_error_is_possible_only_during_init() -> None:
    failing, ready = runtime_api(), runtime_api()
    assert (await post(failing, "/init/error", b"{}", "Runtime.ImportModuleError")).status == 202
    assert failing.init.result() == "Runtime.ImportModuleError"
    ready.offer(invocation())
    await ask_next(ready)
    assert (await post(ready, "/init/error", b"{}", "Runtime.Late")).status == 403
    assert ready.init.result() == ""


async def test_other_paths_do_not_exist() -> None:
    api = runtime_api()
    assert (await post(api, "/invocation/../../etc/response")).status == 404
    assert (await post(api, "/extension/register")).status == 404
    request = HttpRequest(method="DELETE", target=f"{VERSION}/invocation/next", headers=())
    assert (await api.handle(request)).status == 404
