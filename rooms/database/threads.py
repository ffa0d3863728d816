"""The one way from async code to the database: a bounded pool of threads, each with a connection of its own.

State changes are synchronous functions, because Django's transactions are. `thread_sensitive` code would put
all of a process's database work on one thread; here up to DATABASE_THREADS calls run side by side.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache, partial
from typing import ParamSpec, TypeVar

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


async def run(function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
    """Call a synchronous function that uses the database. Cancelling stops the waiting, not the function."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_pool(), partial(_call, function, *args, **kwargs))


async def repeat(function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
    """Like `run`, once more where the connection was dead: for functions that may be called twice."""
    try:
        return await run(function, *args, **kwargs)
    except (OperationalError, InterfaceError):
        return await run(function, *args, **kwargs)


class SingleThread:
    """A thread of its own for work that comes one at a time: its connection keeps its plans, and caches stay warm."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run(
        self, function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Result:
        """See `run`."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, partial(_call, function, *args, **kwargs))

    def close(self) -> None:
        """End the thread, and give its connection back, when what it was given is done; nobody waits for that."""
        with suppress(RuntimeError):  # it was closed before
            # Not `connection.close` itself: that would be the method of the caller's connection.
            self._pool.submit(lambda: connection.close())
        self._pool.shutdown(wait=False)


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=settings.DATABASE_THREADS, thread_name_prefix="database")


def _call(function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
    try:
        return function(*args, **kwargs)
    except (OperationalError, InterfaceError):
        # The connection may have died with the server; the next call takes a fresh one from the pool.
        connection.close()
        raise
