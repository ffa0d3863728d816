"""The example handlers are served by the local Lambda."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integrations.lambda_runtime.served import Serve, serving_handlers


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """Serve a handler: `await serve("name.py", source)`."""
    async with serving_handlers(tmp_path) as start:
        yield start
