"""The one way to the function, whichever door a call came by: its fate first, then an execution environment."""

from __future__ import annotations

from integrations.lambda_runtime.execution.faults import Dice, Fault
from integrations.lambda_runtime.execution.function import Function
from integrations.lambda_runtime.execution.invocation import Invocation, Outcome
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
        invocation.fate = self._dice.roll(timeout_seconds=self.function.timeout_seconds)
        try:
            if invocation.fate.fault is Fault.THROTTLE:
                self._log.injected(invocation.request_id, Fault.THROTTLE)
                raise Throttled
            return await self._pool.invoke(invocation)
        except Throttled:
            self._log.say(f"THROTTLED RequestId: {invocation.request_id}")
            raise
