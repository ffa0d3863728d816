"""Starts execution environments on demand, one for each invocation at a time, and keeps them warm."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from integrations.lambda_runtime import limits
from integrations.lambda_runtime.execution.environment import Environment


class Throttled(Exception):
    """As many invocations as the concurrency allows are running. There is no queue, as at AWS."""


class Pool:
    """Lends environments, each to one invocation at a time. `create` makes one that is not started yet."""

    def __init__(self, create: Callable[[Callable[[Environment], None]], Environment], *, concurrency: int) -> None:
        self._create = create
        self._concurrency = concurrency
        self._all: set[Environment] = set()
        self._stopping = False
        # The last one used is the next one used, so that the rest can be given back.
        self._idle: list[Environment] = []

    @contextlib.asynccontextmanager
    async def environment(self) -> AsyncIterator[Environment]:
        """Lend an environment, a warm one or else one that has just been started. Raises Throttled, OSError."""
        environment = self._acquire()
        try:
            if not environment.has_started:
                await environment.start()
            yield environment
        except BaseException:
            await self._discard(environment)
            raise
        if environment.alive and not environment.is_outdated:
            self._idle.append(environment)
        else:
            # Before the caller hears of it, so that its next call finds a place.
            await self._discard(environment)

    async def warm(self) -> bool:
        """Start one environment ahead of the first call; False if the function cannot be loaded."""
        async with self.environment() as environment:
            return await environment.is_ready()

    async def renew(self) -> bool:
        """Serve new calls in new environments; calls that run end where they are. Returns what `warm` does."""
        idle, self._idle = self._idle, []
        for environment in self._all:
            environment.is_outdated = True
        await asyncio.gather(*(self._discard(environment) for environment in idle))
        try:
            return await self.warm()
        except Throttled:
            return True  # every place is taken by a call that runs; who comes after it starts anew

    async def sweep(self) -> None:
        """End environments that nobody has used for a while, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(limits.ENVIRONMENT_IDLE_SECONDS / 10)
            expiry = loop.time() - limits.ENVIRONMENT_IDLE_SECONDS
            for environment in [one for one in self._idle if one.idle_since < expiry]:
                if environment in self._idle:  # a call may have taken it since
                    self._idle.remove(environment)
                    await self._discard(environment)

    async def stop(self) -> None:
        """Kill every environment, and make no more."""
        self._stopping = True
        self._idle.clear()
        await asyncio.gather(*(environment.stop() for environment in set(self._all)))

    def _acquire(self) -> Environment:
        while self._idle:
            environment = self._idle.pop()
            if environment.alive:
                return environment
        if self._stopping or len(self._all) >= self._concurrency:
            raise Throttled
        environment = self._create(self._forget)
        self._all.add(environment)
        return environment

    async def _discard(self, environment: Environment) -> None:
        await environment.stop()
        self._forget(environment)

    def _forget(self, environment: Environment) -> None:
        self._all.discard(environment)
        if environment in self._idle:
            self._idle.remove(environment)
