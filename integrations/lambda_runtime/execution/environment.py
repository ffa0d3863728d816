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
from typing import Any

from integrations.lambda_runtime import limits
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
from integrations.lambda_runtime.execution.runtime_api import MAX_BODY_BYTES, Delivery, RuntimeApi
from integrations.lambda_runtime.http_server import HttpServer, ServerLimits
from integrations.lambda_runtime.log import Log, Report

LOOPBACK = "127.0.0.1"
RUNTIME_API_LIMITS = ServerLimits(
    body_bytes=MAX_BODY_BYTES,
    buffered_bytes=MAX_BODY_BYTES,
    connections=8,
    body_seconds=None,
    idle_seconds=2 * limits.MAX_TIMEOUT_SECONDS,  # the process says nothing while the function runs
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
        self, function: Function, programs: Programs, lines: Log, *, on_exit: Callable[[Environment], None]
    ) -> None:
        self._function = function
        self._programs = programs
        self._log = lines
        self._on_exit = on_exit
        self._loop = asyncio.get_running_loop()
        self._api = RuntimeApi(function, lines)
        self._server = HttpServer(self._api.handle, bounds=RUNTIME_API_LIMITS, cancel_on_leave=True)
        self._started_at = self.idle_since = self._loop.time()
        self._process: HandlerProcess  # from `start` on, as the two below
        self._exit: asyncio.Task[int]  # its status
        self._init: asyncio.Task[Failed | None]
        self._init_seconds = 0.0
        self.has_started = False
        self.alive = True
        self.is_outdated = False  # it runs what the file said before it was changed

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
        self._exit = self._loop.create_task(self._wait_for_the_end(self._process))
        self._init = self._loop.create_task(self._initialise())
        self.has_started = True

    async def is_ready(self) -> bool:
        """Wait until the runtime asks for its first invocation; False if it never will."""
        return await asyncio.shield(self._init) is None

    async def invoke(self, invocation: Invocation) -> Outcome:
        """Run one invocation to its end, whatever that is. Raises Undelivered if the process is gone unused."""
        if not self.alive:
            raise Undelivered
        is_cold = not self._init.done()
        if failed := await asyncio.shield(self._init):
            self._log.start(invocation.request_id)
            outcome: Outcome = ended(invocation.request_id, failed.message, failed.error_type)
            began = self._loop.time()  # the function has not run
        else:
            delivery = self._api.offer(invocation)
            began = await self._taken(delivery)
            outcome = await self._watch_over(delivery, deadline=began + self._function.timeout_seconds)
        self._finish(invocation, outcome, began, init_seconds=self._init_seconds if is_cold and not failed else None)
        return outcome

    async def stop(self) -> None:
        """Kill the process and what it started; returns when it is gone."""
        self.alive = False
        if self.has_started:
            self._process.kill()
            await asyncio.wait({self._exit})

    async def _initialise(self) -> Failed | None:
        """Wait for the end of init; returns how it failed."""
        await self._first_of(self._api.init, limits.INIT_TIMEOUT_SECONDS)
        self._init_seconds = self._loop.time() - self._started_at
        if self._api.init.done() and not self._api.init.result():
            return None
        self.alive = False
        if self._api.init.done():
            failed = Failed(error_type=self._api.init.result())  # the runtime has said why, in the log too
        elif self._exit.done():
            failed = Failed(error_type=ErrorType.EXITED, message=describe_exit(self._exit.result()))
        else:
            failed = Failed(error_type=ErrorType.TIMED_OUT)
            self._process.kill()
        self._log.init_failed(self._init_seconds, failed.error_type)
        return failed

    async def _taken(self, delivery: Delivery) -> float:
        """Wait until the runtime has taken an invocation, and return when it did. Raises Undelivered."""
        # A runtime says that it is ready by asking: one that has stopped asking has the same limit as init.
        await self._first_of(delivery.taken, limits.INIT_TIMEOUT_SECONDS)
        if delivery.taken.done():
            return delivery.taken.result()
        self.alive = False
        self._process.kill()
        raise Undelivered

    async def _watch_over(self, delivery: Delivery, *, deadline: float) -> Outcome:
        """Wait until the runtime has answered, the time is up, the memory too large or the process gone."""
        request_id = delivery.invocation.request_id
        while (left := deadline - self._loop.time()) > 0:
            await self._first_of(delivery.outcome, min(left, limits.MEMORY_CHECK_SECONDS))
            if delivery.outcome.done():
                return delivery.outcome.result()
            if self._exit.done():
                return ended(request_id, describe_exit(self._exit.result()), ErrorType.EXITED)
            if self._process.resident_bytes() > self._function.memory_mb * limits.MIB:
                return ended(request_id, "Runtime exited with error: signal: killed", ErrorType.OUT_OF_MEMORY)
        return timed_out(request_id, self._function.timeout_seconds)

    async def _first_of(self, event: asyncio.Future[Any], seconds: float) -> None:
        """Wait for an event of the runtime's, for its end, or for so many seconds."""
        await asyncio.wait({event, self._exit}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)

    async def _wait_for_the_end(self, process: HandlerProcess) -> int:
        status = await process.wait()
        self.alive = False
        await self._server.stop()
        self._on_exit(self)
        return status

    def _finish(self, invocation: Invocation, outcome: Outcome, began: float, *, init_seconds: float | None) -> None:
        self.idle_since = self._loop.time()
        self._process.resident_bytes()
        failed = outcome if isinstance(outcome, Failed) else None
        if failed and failed.fatal:
            self.alive = False
        report = Report(
            request_id=invocation.request_id,
            seconds=self.idle_since - began,
            memory_mb=self._function.memory_mb,
            peak_bytes=self._process.peak_bytes,
            init_seconds=init_seconds,
            error_type=failed.error_type if failed else "",
        )
        self._log.end(report, failed.line if failed else "")
