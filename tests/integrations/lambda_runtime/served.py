"""A function served at its URL, in this process, with the real runtimes."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from integrations.lambda_runtime.execution.faults import Dice
from integrations.lambda_runtime.execution.function import Function, Runtime
from integrations.lambda_runtime.log import Log
from integrations.lambda_runtime.server import Options, serving
from tests.patience import PATIENCE


@dataclass
class Served:
    """A running Function URL: an HTTP client for it, and what it has logged."""

    url: str
    client: httpx.AsyncClient
    lines: list[str]

    async def get(self, path: str = "", **options: Any) -> httpx.Response:
        return await self.client.get(path, **options)

    async def post(self, content: Any, **options: Any) -> httpx.Response:
        return await self.client.post("", json=content, **options)

    @property
    def log(self) -> str:
        return "".join(self.lines)


Serve = Callable[..., Awaitable[Served]]


@contextlib.asynccontextmanager
async def serving_handlers(folder: Path) -> AsyncIterator[Serve]:
    """Yield what serves a handler, given as a file, or by name and source; all are stopped at the end."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(
            file: str | Path,
            source: str = "",
            *,
            concurrency: int = 10,
            served: Options | None = None,
            dice: Dice | None = None,
            **options: Any,
        ) -> Served:
            path = file if isinstance(file, Path) else folder / file
            if source:
                path.write_text(textwrap.dedent(source))
            # Not the three seconds of AWS: a runtime that starts may take that long on a busy machine.
            options.setdefault("timeout_seconds", PATIENCE)
            function = Function(path=path, runtime=Runtime.of(path), **options)
            lines: list[str] = []
            url = await stack.enter_async_context(
                serving(
                    function,
                    host="127.0.0.1",
                    port=0,
                    lines=Log(lines.append),
                    options=served or Options(concurrency=concurrency),
                    dice=dice,
                )
            )
            bounds = httpx.Limits(max_connections=None)
            client = httpx.AsyncClient(base_url=url, timeout=PATIENCE, trust_env=False, limits=bounds)
            return Served(url, await stack.enter_async_context(client), lines)

        yield start
