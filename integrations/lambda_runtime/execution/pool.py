"""Execution environments on demand: as many as there are invocations at once, kept warm, never above the limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from integrations.lambda_runtime import limits
from integrations.lambda_runtime.execution.environment import Environment
from integrations.lambda_runtime.execution.faults import NO_FATE, Fault
from integrations.lambda_runtime.execution.invocation import (
    ErrorType,
    Failed,
    Invocation,
    Outcome,
    Undelivered,
    timed_out,
)
from integrations.lambda_runtime.log import Log


class Throttled(Exception):
    """As many invocations as the concurrency allows are running. There is no queue, as at AWS."""


class Pool:
    """Gives each invocation an environment of its own. `create` makes one that is not started yet."""

    def __init__(
        self,
        create: Callable[[Callable[[Environment], None]], Environment],
        *,
        concurrency: int,
        timeout_seconds: float = limits.DEFAULT_TIMEOUT_SECONDS,
        lines: Log,
    ) -> None:
        self._create = create
        self._concurrency = concurrency
        self._timeout_seconds = timeout_seconds
        self._log = lines
        self._all: set[Environment] = set()
        self._outdated: set[Environment] = set()  # they run what the file said before it was changed
        self._stopping = False
        # The last one used is the next one used, so that the rest can be given back.
        self._idle: list[Environment] = []

    async def invoke(self, invocation: Invocation) -> Outcome:
        """Run an invocation. Raises Throttled at the limit."""
        while True:
            environment, is_new = self._acquire()
            try:
                if is_new:
                    await environment.start()
                outcome = await self._suffer(invocation) or await environment.invoke(invocation)
            except Undelivered:
                # It died unused, so the function has not run: another environment serves this invocation. This ends,
                # since a new environment fails its first invocation instead of raising.
                await self._discard(environment)
                invocation.outcome = asyncio.get_running_loop().create_future()
                continue
            except OSError as error:
                await self._discard(environment)
                self._log.say(f"INIT failed: the runtime cannot be started: {error.strerror}")
                return Failed(error_type=ErrorType.EXITED.value, fatal=True)
            except BaseException:
                await self._discard(environment)
                raise
            await self._release(environment, outcome)
            return outcome

    async def warm(self) -> bool:
        """Start one environment ahead of the first call; False if the function cannot be loaded."""
        environment, _ = self._acquire()
        try:
            await environment.start()
            is_ready = await environment.ready
        except BaseException:
            await self._discard(environment)
            raise
        if not is_ready:
            await self._discard(environment)
        else:
            await self._keep(environment)
        return is_ready

    async def renew(self) -> bool:
        """Serve new calls in new environments; calls that run end where they are. Returns what `warm` does."""
        idle, self._idle = self._idle, []
        self._outdated |= self._all
        await asyncio.gather(*(self._discard(environment) for environment in idle))
        try:
            return await self.warm()
        except Throttled:
            return True  # every place is taken by a call that runs; who comes after it starts anew

    async def sweep(self) -> None:
        """Give back, for ever, what has not been used for a while."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(limits.ENVIRONMENT_IDLE_SECONDS / 10)
            expiry = loop.time() - limits.ENVIRONMENT_IDLE_SECONDS
            for environment in [one for one in self._idle if one.idle_since < expiry]:
                self._idle.remove(environment)
                await self._discard(environment)

    async def stop(self) -> None:
        """Kill every environment, and make no more."""
        self._stopping = True
        self._idle.clear()
        await asyncio.gather(*(environment.stop() for environment in set(self._all)))

    @property
    def size(self) -> int:
        """How many environments there are."""
        return len(self._all)

    def _acquire(self) -> tuple[Environment, bool]:
        while self._idle:
            environment = self._idle.pop()
            if environment.alive:
                return environment, False
        if self._stopping or len(self._all) >= self._concurrency:
            raise Throttled
        environment = self._create(self._forget)
        self._all.add(environment)
        return environment, True

    async def _release(self, environment: Environment, outcome: Outcome) -> None:
        if isinstance(outcome, Failed) and outcome.fatal:
            # Before the caller hears of it, so that its next call finds a place.
            await self._discard(environment)
        else:
            await self._keep(environment)

    async def _keep(self, environment: Environment) -> None:
        if environment in self._outdated:
            await self._discard(environment)
        elif environment.alive:
            self._idle.append(environment)

    async def _suffer(self, invocation: Invocation) -> Outcome | None:
        """Let the invocation meet its fate, in an environment that is taken meanwhile, as by a slow function."""
        fate, invocation.fate = invocation.fate, NO_FATE
        if fate.seconds:
            await asyncio.sleep(fate.seconds)
        if fate.fault is None:
            return None
        self._log.injected(invocation.request_id, fate.fault)
        if fate.fault is Fault.TIMEOUT:
            return timed_out(invocation.request_id, self._timeout_seconds)
        return Failed(error_type=ErrorType.INJECTED.value, message="an error on purpose (--error-rate)")

    async def _discard(self, environment: Environment) -> None:
        await environment.stop()
        self._forget(environment)

    def _forget(self, environment: Environment) -> None:
        self._all.discard(environment)
        self._outdated.discard(environment)
        if environment in self._idle:
            self._idle.remove(environment)
