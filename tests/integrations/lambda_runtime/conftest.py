"""What tests of the local Lambda share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from integrations.lambda_runtime import limits
from tests.integrations.lambda_runtime.served import Serve, serving_handlers
from tests.patience import PATIENCE


@pytest.fixture
async def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Serve]:
    """Serve a handler: `await serve("name.py", source)`."""
    monkeypatch.setattr(limits, "INIT_TIMEOUT_SECONDS", PATIENCE)  # a runtime starts slowly on a busy machine
    async with serving_handlers(tmp_path) as start:
        yield start


@pytest.fixture
def eventually() -> Callable[..., Awaitable[None]]:
    """Await a condition that another process brings about; fails after `seconds`."""

    async def wait(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.01)

    return wait
