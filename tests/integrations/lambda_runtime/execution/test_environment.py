"""Handlers in their real runtimes, awslambdaric and Node: what works, and how each failure looks from outside."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import psutil
import pytest

Serve = Callable[..., Awaitable[Any]]

# The same function in both languages; its one parameter says what it is to do.
PYTHON = """
    import json, os, sys, time
    calls = 0

    def handler(event, context):
        global calls
        calls += 1
        what = event["rawPath"][1:]
        if what == "echo":
            return {"statusCode": 200, "body": event["body"]}
        if what == "context":
            return {"id": context.aws_request_id, "name": context.function_name, "arn": context.invoked_function_arn,
                    "memory": context.memory_limit_in_mb, "left": context.get_remaining_time_in_millis()}
        if what == "environment":
            return dict(os.environ)
        if what == "raise":
            raise ValueError("a message text")
        if what == "exit":
            os._exit(7)
        if what == "hang":
            time.sleep(60)
        if what == "unserialisable":
            return {"statusCode": 200, "body": object()}
        if what == "malformed":
            return {"statusCode": "never"}
        if what == "large":
            return {"statusCode": 200, "body": "x" * (6 * 1024 * 1024 + 200)}
        if what == "memory":
            hoard = bytearray(200 * 1024 * 1024)
            time.sleep(60)
        return {"pid": os.getpid(), "calls": calls}
"""
NODE = """
    let calls = 0;
    export const handler = async (event, context) => {
      calls += 1;
      const what = event.rawPath.slice(1);
      if (what === "echo") return { statusCode: 200, body: event.body };
      if (what === "context") {
        return { id: context.awsRequestId, name: context.functionName, arn: context.invokedFunctionArn,
                 memory: context.memoryLimitInMB, left: context.getRemainingTimeInMillis() };
      }
      if (what === "environment") return { ...process.env };
      if (what === "raise") throw new TypeError("a message text");
      if (what === "exit") process.exit(7);
      if (what === "hang") await new Promise((resolve) => setTimeout(resolve, 60000));
      if (what === "unserialisable") return { statusCode: 200, body: 1n };
      if (what === "malformed") return { statusCode: "never" };
      if (what === "large") return { statusCode: 200, body: "x".repeat(6 * 1024 * 1024 + 200) };
      if (what === "memory") {
        const hoard = Buffer.alloc(200 * 1024 * 1024, 1);
        await new Promise((resolve) => setTimeout(resolve, 60000, hoard));
      }
      return { pid: process.pid, calls };
    };
"""

both_languages = pytest.mark.parametrize(("file", "source"), [("work.py", PYTHON), ("work.mjs", NODE)])


@both_languages
async def test_a_body_arrives_and_comes_back_whole(serve: Serve, file: str, source: str) -> None:
    served = await serve(file, source)
    text = "grüße 🥔 " * 1_000
    answer = await served.client.post("echo", content=json.dumps(text), headers={"content-type": "application/json"})
    assert (answer.status_code, json.loads(answer.text)) == (200, text)
    assert answer.headers["content-type"] == "application/json"
    assert {"x-amzn-requestid", "x-amzn-trace-id"} <= answer.headers.keys()


@both_languages
async def test_the_context_is_as_documented(serve: Serve, file: str, source: str) -> None:
    served = await serve(file, source, timeout_seconds=5, memory_mb=256)
    answer = await served.get("context")
    context = answer.json()
    assert context["id"] == answer.headers["x-amzn-requestid"]
    assert (context["name"], context["memory"]) == ("work", "256")
    assert context["arn"].endswith(":function:work")
    assert 3_000 < context["left"] <= 5_000


@both_languages
async def test_a_function_sees_its_own_variables_and_none_of_ours(
    serve: Serve, file: str, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://secret")
    served = await serve(file, source, environment={"BANNED_WORDS": "leek", "AWS_LAMBDA_RUNTIME_API": "elsewhere"})
    seen = (await served.get("environment")).json()
    assert seen["BANNED_WORDS"] == "leek"
    assert seen["AWS_LAMBDA_FUNCTION_NAME"] == "work"
    assert seen["AWS_LAMBDA_RUNTIME_API"].startswith("127.0.0.1:")
    assert "DATABASE_URL" not in seen and "SECRET_KEY" not in seen


@both_languages
async def test_calls_one_after_the_other_share_a_warm_environment(serve: Serve, file: str, source: str) -> None:
    served = await serve(file, source)
    answers = [(await served.get("count")).json() for _ in range(5)]
    assert len({answer["pid"] for answer in answers}) == 1
    assert [answer["calls"] for answer in answers] == [1, 2, 3, 4, 5]


@both_languages
@pytest.mark.parametrize(
    ("what", "in_the_log"),
    [
        ("raise", "Status: error"),
        ("exit", "Error: Runtime exited with error: exit status 7\nRuntime.ExitError"),
        ("hang", "Task timed out after 3.00 seconds"),
        ("unserialisable", "Status: error"),
        ("malformed", "Error: statusCode is not a number from 200 to 599"),
        ("large", "Error Type: Function.ResponseSizeTooLarge"),
        ("memory", "Error Type: Runtime.OutOfMemory"),
    ],
)
async def test_a_failed_call_is_a_502_and_the_next_one_is_served(
    serve: Serve, file: str, source: str, what: str, in_the_log: str
) -> None:
    served = await serve(file, source, concurrency=1, timeout_seconds=3 if what == "hang" else 60)
    failed = await served.get(what)
    assert (failed.status_code, failed.text) == (502, "Internal Server Error")
    assert failed.headers["content-type"] == "application/json"
    assert in_the_log in served.log
    assert (await served.get("count")).status_code == 200


@both_languages
async def test_an_unhandled_exception_keeps_the_environment(serve: Serve, file: str, source: str) -> None:
    served = await serve(file, source)
    before = (await served.get("count")).json()["pid"]
    await served.get("raise")
    assert (await served.get("count")).json()["pid"] == before


@both_languages
async def test_a_crash_costs_the_calls_beside_it_nothing(serve: Serve, file: str, source: str) -> None:
    served = await serve(file, source, concurrency=4)
    answers = await asyncio.gather(*(served.get(what) for what in ["count", "exit", "count", "raise"]))
    assert [answer.status_code for answer in answers] == [200, 502, 200, 502]


@both_languages
async def test_each_call_is_logged_as_at_aws_and_without_its_contents(serve: Serve, file: str, source: str) -> None:
    served = await serve(file, source)
    answer = await served.client.post("echo?token=hidden", content="text", headers={"content-type": "text/plain"})
    request_id = answer.headers["x-amzn-requestid"]
    start, end, report = served.log.splitlines()[-3:]
    assert start == f"START RequestId: {request_id} Version: $LATEST"
    assert end == f"END RequestId: {request_id}"
    assert report.startswith(f"REPORT RequestId: {request_id}\tDuration: ")
    assert "Memory Size: 128 MB" in report
    assert "text" not in served.log and "hidden" not in served.log


@pytest.mark.parametrize(
    ("file", "source", "error_type"),
    [
        ("broken.py", "import nothing_of_that_name\n", "Runtime.ImportModuleError"),
        ("broken.py", "def handler(:\n", "Runtime.UserCodeSyntaxError"),
        ("broken.py", "other = 1\n", "Runtime.HandlerNotFound"),
        ("broken.py", "raise RuntimeError('at import')\n", "RuntimeError"),
        ("broken.py", "import os; os._exit(3)\n", "Runtime.ExitError"),
        ("broken.mjs", "import nothing from 'nothing-of-that-name';\n", "Runtime.ImportModuleError"),
        ("broken.mjs", "export const handler = (;\n", "Runtime.UserCodeSyntaxError"),
        ("broken.mjs", "export const other = 1;\n", "Runtime.HandlerNotFound"),
        ("broken.mjs", "throw new RangeError('at import');\n", "RangeError"),
        ("broken.mjs", "process.exit(3);\n", "Runtime.ExitError"),
    ],
)
async def test_a_function_that_cannot_be_loaded_says_so_at_once_and_with_each_call(
    serve: Serve, file: str, source: str, error_type: str
) -> None:
    served = await serve(file, source, concurrency=1)
    assert f"Status: error\tError Type: {error_type}" in served.log
    for _ in range(2):
        assert (await served.get()).status_code == 502
    assert served.log.count("INIT_REPORT") == 3


async def test_a_function_that_is_mended_is_loaded_by_the_next_call(serve: Serve, tmp_path: Any) -> None:
    served = await serve("mended.py", "import nothing_of_that_name\n")
    assert (await served.get()).status_code == 502
    (tmp_path / "mended.py").write_text("def handler(event, context):\n    return 'fine'\n")
    assert (await served.get()).text == "fine"


async def test_init_has_a_limit_of_its_own(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("integrations.lambda_runtime.limits.INIT_TIMEOUT_SECONDS", 0.3)
    served = await serve("slow.py", "import time; time.sleep(60)\n")
    assert "Phase: init\tStatus: timeout" in served.log
    assert (await served.get()).status_code == 502


async def test_an_environment_that_dies_while_idle_is_replaced_unnoticed(
    serve: Serve, eventually: Callable[..., Awaitable[None]]
) -> None:
    served = await serve("work.py", PYTHON, concurrency=1)
    before = (await served.get("count")).json()["pid"]
    os.kill(before, signal.SIGKILL)
    await eventually(lambda: not psutil.pid_exists(before))
    while (answer := await served.get("count")).status_code == 429:  # its place is not free yet
        pass
    assert (answer.status_code, answer.json()["calls"]) == (200, 1)


async def test_an_environment_that_dies_after_its_answer_costs_the_next_call_nothing(serve: Serve) -> None:
    source = """
        import os, threading
        def handler(event, context):
            if event["rawPath"] == "/last":
                runtime = __import__("awslambdaric.lambda_runtime_client", fromlist=["*"]).runtime_client
                runtime.next = lambda: os._exit(1)
            return {"pid": os.getpid()}
    """
    served = await serve("leaves.py", source, concurrency=1)
    for _ in range(5):
        last = (await served.get("last")).json()["pid"]
        # Sent while the process is on its way out: it was given to nobody, so it is no failure.
        assert (await served.get()).json()["pid"] != last
