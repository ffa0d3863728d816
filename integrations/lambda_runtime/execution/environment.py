"""One execution environment: a handler's process, its Runtime API, and the invocation that it has.

Lifecycle as in AWS's "Understanding the Lambda execution environment lifecycle": init (10 s at most), then
one invocation after the other, each with the function's timeout, until something ends the process.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from integrations.lambda_runtime import limits, log
from integrations.lambda_runtime.execution.function import Function
from integrations.lambda_runtime.execution.invocation import (
    ErrorType,
    Failed,
    Invocation,
    Outcome,
    Undelivered,
    ended,
    timed_out,
)
from integrations.lambda_runtime.execution.process import HandlerProcess, describe_exit
from integrations.lambda_runtime.execution.runtime_api import MAX_BODY_BYTES, RuntimeApi
from integrations.lambda_runtime.http_server import HttpServer, ServerLimits

LOOPBACK = "127.0.0.1"
# While the function runs, its process says nothing.
RUNTIME_API_LIMITS = ServerLimits(
    body_bytes=MAX_BODY_BYTES,
    buffered_bytes=MAX_BODY_BYTES,
    connections=8,
    body_seconds=None,
    idle_seconds=2 * limits.MAX_TIMEOUT_SECONDS,
)


@dataclass(frozen=True, kw_only=True)
class Programs:
    """The interpreters that run handlers, and the PATH that these see."""

    python: str
    node: str
    search_path: str


class Environment:
    """Serves one invocation at a time. Use: `start`, then `invoke` as often as `alive`, then `stop`."""

    def __init__(
        self, function: Function, programs: Programs, lines: log.Log, *, on_exit: Callable[[Environment], None]
    ) -> None:
        self._function = function
        self._programs = programs
        self._log = lines
        self._on_exit = on_exit
        self._api = RuntimeApi(self)
        self._server = HttpServer(self._api.handle, bounds=RUNTIME_API_LIMITS, cancel_on_leave=True)
        self._loop = asyncio.get_running_loop()
        self._process: HandlerProcess | None = None
        self._exited = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._current: Invocation | None = None
        self._started_at = self._loop.time()
        self._init_seconds: float | None = None  # None until the runtime has asked for its first invocation
        self.ready: asyncio.Future[bool] = self._loop.create_future()  # False: it failed before it was
        self.alive = True
        self.idle_since = self._started_at

    async def start(self) -> None:
        """Start the process; it is used before it is ready. Raises OSError if it cannot be started."""
        port = await self._server.start(LOOPBACK, 0)
        variables = self._function.variables(
            runtime_api=f"{LOOPBACK}:{port}",
            stream=f"{time.strftime('%Y/%m/%d', time.gmtime())}/[$LATEST]{uuid.uuid4().hex}",
            search_path=self._programs.search_path,
        )
        command = self._function.command(python=self._programs.python, node=self._programs.node)
        try:
            self._process = await HandlerProcess.start(
                command, directory=self._function.path.parent, variables=variables
            )
        except BaseException:
            await self._server.stop()
            raise
        self._watcher = self._loop.create_task(self._watch(self._process))
        self._timer = self._loop.call_later(limits.INIT_TIMEOUT_SECONDS, self._on_init_timeout)

    async def invoke(self, invocation: Invocation) -> Outcome:
        """Run one invocation to its end, whatever that is. Raises Undelivered if the process is gone unused."""
        assert self._current is None, "one execution environment has one invocation at a time"
        if not self.alive:
            raise Undelivered
        self._current = invocation
        if self._init_seconds is not None:
            # It says that it is ready by asking: one that has stopped asking has the same limit as init.
            self._timer = self._loop.call_later(limits.INIT_TIMEOUT_SECONDS, self._on_init_timeout)
        self._api.offer(invocation)
        try:
            return await invocation.outcome
        finally:
            self._current = None
            self.idle_since = self._loop.time()

    async def stop(self) -> None:
        """Kill the process and what it started; returns when it is gone."""
        self.alive = False
        if self._process is not None:
            self._process.kill()
            await self._exited.wait()

    # what the runtime does (runtime_api.Listener)

    def on_ready(self) -> None:
        """Init is over; its time is reported with the first invocation that waited for it."""
        self._cancel_timer()
        self._init_seconds = self._loop.time() - self._started_at
        if self._current is not None:
            self._current.init_seconds = self._init_seconds
        if not self.ready.done():
            self.ready.set_result(True)

    def on_delivered(self, invocation: Invocation) -> tuple[str, int]:
        """The invocation's time runs from here."""
        self._cancel_timer()
        invocation.delivered_at = self._loop.time()
        self._log.start(invocation.request_id)
        self._watch_over(invocation)
        return self._function.arn_of(invocation.qualifier), int((time.time() + self._function.timeout_seconds) * 1000)

    def on_finished(self, invocation: Invocation, outcome: Outcome) -> None:
        """The runtime has answered."""
        self._settle(invocation, outcome)

    def on_init_error(self, error_type: str) -> None:
        """The runtime has said why it cannot start, in the log too."""
        self._fail_init(error_type)

    # what time and the system do

    async def _watch(self, process: HandlerProcess) -> None:
        status = await process.wait()
        self.alive = False
        self._cancel_timer()
        invocation = self._current
        if self._init_seconds is None:
            self._fail_init(ErrorType.EXITED.value, describe_exit(status))
        elif invocation is not None and invocation.delivered_at is None:
            invocation.give_back()
        elif invocation is not None:
            self._settle(invocation, ended(invocation.request_id, describe_exit(status), ErrorType.EXITED))
        await self._server.stop()
        self._exited.set()
        self._on_exit(self)

    def _watch_over(self, invocation: Invocation) -> None:
        """Look at a running invocation's memory now and then, and at its deadline."""
        assert invocation.delivered_at is not None
        left = invocation.delivered_at + self._function.timeout_seconds - self._loop.time()
        if left <= 0:
            self._end_by_force(invocation, ErrorType.TIMED_OUT)
        elif self._is_too_large():
            self._end_by_force(invocation, ErrorType.OUT_OF_MEMORY)
        else:
            pause = min(left, limits.MEMORY_CHECK_SECONDS)
            self._timer = self._loop.call_later(pause, self._watch_over, invocation)

    def _end_by_force(self, invocation: Invocation, error_type: ErrorType) -> None:
        if error_type is ErrorType.TIMED_OUT:
            outcome = timed_out(invocation.request_id, self._function.timeout_seconds)
        else:
            outcome = ended(invocation.request_id, "Runtime exited with error: signal: killed", error_type)
        self._settle(invocation, outcome)

    def _on_init_timeout(self) -> None:
        if self._init_seconds is None:
            self._fail_init(ErrorType.TIMED_OUT.value)
        elif self._current is not None:
            self._current.give_back()
        self.alive = False
        if self._process is not None:
            self._process.kill()

    def _fail_init(self, error_type: str, description: str = "") -> None:
        self.alive = False
        if not self.ready.done():
            self.ready.set_result(False)
            self._log.init_failed(self._loop.time() - self._started_at, error_type)
        if self._current is not None and not self._current.outcome.done():
            self._log.start(self._current.request_id)
            self._settle(self._current, ended(self._current.request_id, description, error_type))

    def _settle(self, invocation: Invocation, outcome: Outcome) -> None:
        self._cancel_timer()
        if not invocation.settle(outcome):
            return
        seconds = self._loop.time() - (invocation.delivered_at or self._loop.time())
        assert self._process is not None
        self._process.resident_bytes()
        report = log.Report(
            request_id=invocation.request_id,
            seconds=seconds,
            memory_mb=self._function.memory_mb,
            peak_bytes=self._process.peak_bytes,
            init_seconds=invocation.init_seconds,
            error_type=outcome.error_type if isinstance(outcome, Failed) else "",
        )
        self._log.end(report, outcome.line if isinstance(outcome, Failed) else "")

    def _is_too_large(self) -> bool:
        assert self._process is not None
        return self._process.resident_bytes() > self._function.memory_mb * limits.MIB

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
