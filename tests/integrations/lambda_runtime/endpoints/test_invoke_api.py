"""The Invoke API: what AWS's own SDK gets from it, and what it refuses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.session import Session

from integrations.lambda_runtime import limits
from integrations.lambda_runtime.execution.faults import Dice, Faults
from integrations.lambda_runtime.server import Options

Serve = Callable[..., Awaitable[Any]]
Eventually = Callable[..., Awaitable[None]]
WORK = """
    import pathlib, os
    def handler(event, context):
        if event.get("raise"):
            raise ValueError("a message text")
        if event.get("exit"):
            os._exit(7)
        if event.get("write"):
            pathlib.Path(event["write"]).touch()
        return {"event": event, "arn": context.invoked_function_arn}
"""
PATH = "2015-03-31/functions/work/invocations"


async def sdk(served: Any, **arguments: Any) -> Any:
    """Invoke by botocore, as any program at AWS would."""
    session = Session()
    session.set_credentials("AKIDEXAMPLE", "secret")
    client = session.create_client(
        "lambda",
        region_name="us-east-1",
        endpoint_url=served.url,
        config=Config(retries={"total_max_attempts": 1}, proxies={}),
    )
    try:
        return await asyncio.to_thread(lambda: client.invoke(**{"FunctionName": "work", **arguments}))
    finally:
        client.close()


async def test_the_sdk_invokes_the_function_by_name_arn_and_alias(serve: Serve) -> None:
    served = await serve("work.py", WORK, served=Options(qualifiers=["live"]))
    arn = "arn:aws:lambda:us-east-1:000000000000:function:work"
    for arguments, seen in (
        ({}, arn),
        ({"FunctionName": arn}, arn),
        ({"FunctionName": "work:live"}, f"{arn}:live"),
        ({"Qualifier": "live"}, f"{arn}:live"),
        ({"Qualifier": "$LATEST"}, f"{arn}:$LATEST"),
    ):
        answer = await sdk(served, Payload=b'{"a": 1}', **arguments)
        assert json.load(answer["Payload"]) == {"event": {"a": 1}, "arn": seen}
        assert (answer["StatusCode"], answer["ExecutedVersion"]) == (200, "$LATEST")
        assert "FunctionError" not in answer
    with pytest.raises(ClientError) as caught:
        await sdk(served, Qualifier="other")
    assert caught.value.response["Error"]["Code"] == "ResourceNotFoundException"


async def test_a_failure_of_the_function_is_a_200_with_its_account(serve: Serve) -> None:
    dice = Dice()
    served = await serve("work.py", WORK, timeout_seconds=3, dice=dice)
    answer = await sdk(served, Payload=b'{"raise": true}')
    account = json.load(answer["Payload"])
    assert (answer["StatusCode"], answer["FunctionError"]) == (200, "Unhandled")
    assert (account["errorType"], account["errorMessage"]) == ("ValueError", "a message text")
    answer = await sdk(served, Payload=b'{"exit": true}')
    account = json.load(answer["Payload"])
    assert account["errorType"] == "Runtime.ExitError"
    assert account["errorMessage"].endswith("Error: Runtime exited with error: exit status 7")
    dice.faults = Faults(timeout_rate=1)
    account = json.load((await sdk(served))["Payload"])
    assert account["errorType"] == "Sandbox.Timedout"
    assert account["errorMessage"].endswith("Task timed out after 3.00 seconds")
    dice.faults = Faults(throttle_rate=1)
    with pytest.raises(ClientError) as caught:
        await sdk(served)
    assert caught.value.response["Error"]["Code"] == "TooManyRequestsException"


async def test_an_event_is_taken_at_once_and_runs_later(serve: Serve, eventually: Eventually, tmp_path: Any) -> None:
    served = await serve("work.py", WORK)
    done = tmp_path / "done"
    answer = await sdk(served, InvocationType="Event", Payload=json.dumps({"write": str(done)}).encode())
    assert (answer["StatusCode"], answer["Payload"].read()) == (202, b"")
    await eventually(done.exists)
    assert (await sdk(served, InvocationType="DryRun"))["StatusCode"] == 204


@pytest.mark.parametrize(
    ("path", "headers", "body", "status", "error_type"),
    [
        (PATH, {}, b"{", 400, "InvalidRequestContentException"),
        (PATH, {}, b"[" * 100_000, 400, "InvalidRequestContentException"),
        (PATH, {"x-amz-invocation-type": "Later"}, b"{}", 400, "InvalidParameterValueException"),
        (PATH, {"x-amz-invocation-type": "Event"}, b'"%s"' % (b"x" * limits.MIB), 413, "RequestTooLargeException"),
        (PATH + "?Qualifier=a", {}, b"{}", 404, "ResourceNotFoundException"),
        ("2015-03-31/functions/work%3Aa/invocations?Qualifier=b", {}, b"", 400, "InvalidParameterValueException"),
        ("2015-03-31/functions/other/invocations", {}, b"", 404, "ResourceNotFoundException"),
        ("2015-03-31/functions/%00/invocations", {}, b"", 400, "ValidationException"),
        ("2015-03-31/functions/work", {}, b"", 404, "UnknownOperationException"),
    ],
)
async def test_what_aws_refuses_is_refused(
    serve: Serve, path: str, headers: dict[str, str], body: bytes, status: int, error_type: str
) -> None:
    served = await serve("work.py", WORK)
    answer = await served.client.post(path, content=body, headers=headers)
    assert (answer.status_code, answer.headers["x-amzn-errortype"]) == (status, error_type)
