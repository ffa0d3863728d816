"""Runs each call of the function, whichever endpoint it came by: first its faults on purpose, then an environment."""

from __future__ import annotations

import asyncio

from integrations.lambda_runtime.execution.environment import Environment
from integrations.lambda_runtime.execution.faults import NO_FATE, Dice, Fate, Fault
from integrations.lambda_runtime.execution.function import Function
from integrations.lambda_runtime.execution.invocation import (
    ErrorType,
    Failed,
    Invocation,
    Outcome,
    Undelivered,
    timed_out,
)
from integrations.lambda_runtime.execution.pool import Pool, Throttled
from integrations.lambda_runtime.log import Log


class Invoker:
    """Runs invocations of one function."""

    def __init__(self, function: Function, pool: Pool, lines: Log, dice: Dice) -> None:
        self.function = function
        self._pool = pool
        self._log = lines
        self._dice = dice

    async def invoke(self, invocation: Invocation) -> Outcome:
        """Run an invocation to its end. Raises Throttled at the concurrency, or where the dice say so."""
        fate = self._dice.roll(timeout_seconds=self.function.timeout_seconds)
        try:
            if fate.fault is Fault.THROTTLE:
                self._log.injected(invocation.request_id, Fault.THROTTLE)
                raise Throttled
            return await self._run(invocation, fate)
        except Throttled:
            self._log.say(f"THROTTLED RequestId: {invocation.request_id}")
            raise

    async def _run(self, invocation: Invocation, fate: Fate) -> Outcome:
        while True:
            try:
                async with self._pool.environment() as environment:
                    met, fate = fate, NO_FATE
                    return await self._meet(met, invocation, environment) or await environment.invoke(invocation)
            except Undelivered:
                # It died unused, so the function has not run: another environment serves this invocation. This ends,
                # since a new environment fails its first invocation instead of raising.
                continue
            except OSError as error:
                self._log.say(f"INIT failed: the runtime cannot be started: {error.strerror}")
                return Failed(error_type=ErrorType.EXITED, fatal=True)

    async def _meet(self, fate: Fate, invocation: Invocation, environment: Environment) -> Outcome | None:
        """Let an invocation meet its fate, in an environment that is taken meanwhile, as by a slow function."""
        if fate.seconds:
            await asyncio.sleep(fate.seconds)
        if fate.fault is None:
            return None
        self._log.injected(invocation.request_id, fate.fault)
        if fate.fault is Fault.TIMEOUT:
            await environment.stop()
            return timed_out(invocation.request_id, self.function.timeout_seconds)
        return Failed(error_type=ErrorType.INJECTED, message="an error on purpose (--error-rate)")
