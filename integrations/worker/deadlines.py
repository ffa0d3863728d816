"""What time does to deliveries and messages that wait: deadlines decide, and nobody is asked any more."""

from __future__ import annotations

import asyncio
import logging
import time

from integrations import outbox
from integrations.worker.clock import Clock
from integrations.worker.recorder import DATABASE_SECONDS, WorkerMetrics
from rooms import faults
from rooms.database.threads import SingleThread
from rooms.faults import POSTGRES_AWAY
from rooms.review import deadlines

logger = logging.getLogger(__name__)

EXPIRE_SECONDS = 0.25
CANCEL_SECONDS = 1.0


async def run(metrics: WorkerMetrics, clock: Clock) -> None:
    """Let deadlines decide until cancelled. Each step is bounded; where more is due, the next follows at once."""
    thread = SingleThread("deadlines")
    cancelled_at = 0.0
    try:
        while True:
            # By a clock that is ahead, nobody would be asked at all.
            cancels = clock.is_set and time.monotonic() - cancelled_at >= CANCEL_SECONDS
            has_more = await _step(thread, metrics, clock, cancels=cancels)
            if cancels and not has_more:
                cancelled_at = time.monotonic()
            if not has_more:
                await asyncio.sleep(EXPIRE_SECONDS)
            # A long backlog must not keep those from working who wait for the same thread of Python.
            await asyncio.sleep(0.01)
    finally:
        thread.close()


async def _step(thread: SingleThread, metrics: WorkerMetrics, clock: Clock, *, cancels: bool) -> bool:
    """Make one step. Return whether there is more to do."""
    cancelled = 0
    try:
        async with asyncio.timeout(DATABASE_SECONDS):
            expired = await thread.run(deadlines.expire)
            if cancels:
                cancelled = await thread.run(outbox.cancel_overdue, now=clock.now())
    except (*POSTGRES_AWAY, TimeoutError) as error:
        logger.warning("Deadlines could not be checked (%s).", type(error).__name__)
        return False
    except Exception:
        faults.record("deadlines")
        return False
    metrics.expired += expired
    return expired == deadlines.EXPIRE_BATCH_MESSAGES or cancelled >= outbox.OVERDUE_STEP
