"""Runs asynchronous invocations (type Event), and tries each twice more when the function fails."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from integrations.lambda_runtime import limits
from integrations.lambda_runtime.execution.invocation import Failed, Invocation, Outcome
from integrations.lambda_runtime.execution.invoker import Invoker
from integrations.lambda_runtime.execution.pool import Throttled
from integrations.lambda_runtime.log import Log


class EventQueue:
    """Holds at most `limits.MAX_QUEUED_EVENTS` events. They are lost when the command ends; AWS keeps them."""

    def __init__(
        self, invoker: Invoker, lines: Log, *, retry_seconds: Sequence[float] = limits.EVENT_RETRY_SECONDS
    ) -> None:
        self._invoker = invoker
        self._log = lines
        self._retry_seconds = retry_seconds
        self._tasks: set[asyncio.Task[None]] = set()

    def offer(self, invocation: Invocation) -> bool:
        """Take an event; False if there is no room."""
        if len(self._tasks) >= limits.MAX_QUEUED_EVENTS:
            return False
        task = asyncio.create_task(self._run(invocation))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    def close(self) -> None:
        """Drop all events."""
        for task in self._tasks:
            task.cancel()

    async def _run(self, invocation: Invocation) -> None:
        for pause in (*self._retry_seconds, None):
            outcome = await self._try(invocation)
            if not isinstance(outcome, Failed):
                return
            if pause is not None:
                await asyncio.sleep(pause)
        self._log.say("an asynchronous invocation failed for good: its event is dropped")

    async def _try(self, invocation: Invocation) -> Outcome:
        # At AWS a throttled event waits for up to six hours: here, for as long as the command runs.
        while True:
            try:
                return await self._invoker.invoke(invocation)
            except Throttled:
                await asyncio.sleep(limits.EVENT_THROTTLED_SECONDS)
