"""Deadlines are looked after for as long as the gateway runs."""

from __future__ import annotations

import asyncio

import pytest

from chatsite.server.process import sweep
from tests.patience import PATIENCE


async def test_a_fault_is_told_and_ends_no_deadline(caplog: pytest.LogCaptureFixture) -> None:
    times: list[float] = []
    third = asyncio.Event()

    def fail_at_first(now: float) -> None:
        times.append(now)
        if len(times) == 1:
            raise OSError("the board is gone")
        if len(times) == 3:
            third.set()

    sweep(asyncio.get_running_loop(), 0.001, fail_at_first)
    await asyncio.wait_for(third.wait(), PATIENCE)

    assert times == sorted(times)
    assert [record.exc_info is not None for record in caplog.records] == [True]
