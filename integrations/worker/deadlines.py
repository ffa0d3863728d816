"""Decides messages whose deadline has passed, by their rule's policy, and cancels the deliveries that are overdue."""

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
    """Apply deadlines until cancelled, in bounded steps; while more is due, the next step follows at once."""
    thread = SingleThread("deadlines")
    cancelled_at = 0.0
    try:
        while True:
            # With a clock that is ahead, deliveries would be cancelled before they are called.
            cancels = clock.is_set and time.monotonic() - cancelled_at >= CANCEL_SECONDS
            has_more = await _step(thread, metrics, clock, cancels=cancels)
            if cancels and not has_more:
                cancelled_at = time.monotonic()
            if not has_more:
                await asyncio.sleep(EXPIRE_SECONDS)
            # During a long backlog the process's other tasks need their turn.
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
