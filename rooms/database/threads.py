"""Runs database work of async code in a bounded pool of threads, each with a connection of its own.

State changes are synchronous functions, because Django's transactions are. asgiref's `thread_sensitive` would put
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
    """Call a synchronous function that uses the database. A cancelled caller stops waiting; the function goes on."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_pool(), partial(_call, function, *args, **kwargs))


async def repeat(function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
    """Call as `run` does, and once more if the connection was dead. For functions that may be called twice."""
    try:
        return await run(function, *args, **kwargs)
    except (OperationalError, InterfaceError):
        return await run(function, *args, **kwargs)


class SingleThread:
    """One thread with one connection, for work that comes one call at a time: prepared plans and caches stay warm."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run(
        self, function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Result:
        """Call a synchronous function on this thread, as `run` does on the pool."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, partial(_call, function, *args, **kwargs))

    def close(self) -> None:
        """Give the connection back and end the thread once its calls are done. Does not wait for that."""
        with suppress(RuntimeError):  # it was closed before
            # A lambda: `connection.close`, looked up here, would close the connection of the calling thread.
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
