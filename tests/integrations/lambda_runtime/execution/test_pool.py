"""How many environments there are: one for each call at once, none above the limit, none that nobody needs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import psutil
import pytest

from integrations.lambda_runtime import limits
from integrations.lambda_runtime.execution.pool import Pool

Serve = Callable[..., Awaitable[Any]]
Eventually = Callable[..., Awaitable[None]]


# Waits until the test says so: each call adds a line to a file, and ends when the file `go` is there.
GATE = """
    import os, pathlib, time
    here = pathlib.Path(os.environ["HERE"])

    def handler(event, context):
        with (here / "arrived").open("a") as file:
            file.write("x")
        while not (here / "go").exists():
            time.sleep(0.005)
        return {"pid": os.getpid()}
"""


async def test_above_the_concurrency_calls_are_throttled_and_those_below_are_served(
    serve: Serve, eventually: Eventually, tmp_path: Any
) -> None:
    served = await serve("gate.py", GATE, concurrency=2, timeout_seconds=20, environment={"HERE": str(tmp_path)})
    (tmp_path / "arrived").touch()
    running = [asyncio.create_task(served.get()) for _ in range(2)]
    await eventually(lambda: (tmp_path / "arrived").read_text() == "xx")
    refused = await asyncio.gather(*(served.get() for _ in range(5)))
    (tmp_path / "go").touch()
    assert {answer.status_code for answer in refused} == {429}
    assert refused[0].json()["message"] == "Rate Exceeded."
    assert refused[0].headers["x-amzn-errortype"] == "TooManyRequestsException"
    pids = {(await task).json()["pid"] for task in running}
    assert len(pids) == 2, "each call has an environment of its own"
    assert served.log.count("Init Duration") == 1, "one was warm, the other was started for its call"
    assert (await served.get()).json()["pid"] in pids


async def test_as_many_callers_as_the_concurrency_are_never_throttled(serve: Serve) -> None:
    served = await serve("fast.py", "def handler(event, context):\n    return 1\n", concurrency=3)

    async def call_often() -> set[int]:
        return {(await served.get()).status_code for _ in range(60)}

    assert await asyncio.gather(*(call_often() for _ in range(3))) == [{200}] * 3


async def test_an_environment_that_nobody_calls_is_given_back(
    serve: Serve, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ENVIRONMENT_IDLE_SECONDS", 0.2)
    served = await serve("pid.py", "import os\ndef handler(event, context):\n    return os.getpid()\n")
    pid = (await served.get()).json()
    await eventually(lambda: not psutil.pid_exists(pid))
    assert (await served.get()).json() != pid


class Idle:
    """An environment without a process, whose end waits for a word."""

    def __init__(self, ending: asyncio.Event) -> None:
        self.has_started = self.alive = True
        self.is_outdated = self.is_ending = False
        self.idle_since = 0.0
        self._ending = ending

    async def stop(self) -> None:
        self.alive, self.is_ending = False, True
        await self._ending.wait()


async def test_an_environment_that_a_call_takes_while_another_is_given_back_stays_with_the_call(
    eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ENVIRONMENT_IDLE_SECONDS", 0.01)
    ending = asyncio.Event()
    pool = Pool(lambda on_exit: Idle(ending), concurrency=2)  # type: ignore[arg-type, return-value]
    async with pool.environment() as second, pool.environment() as first:
        pass
    sweeping = asyncio.create_task(pool.sweep())
    await eventually(lambda: first.is_ending)  # type: ignore[attr-defined]
    async with pool.environment() as taken:
        ending.set()
        await asyncio.sleep(0.05)
        assert taken is second and taken.alive and not sweeping.done()
    sweeping.cancel()
