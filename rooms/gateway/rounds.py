"""Repeats work of a gateway in rounds; a round that fails does not stop the next one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from rooms import faults
from rooms.faults import POSTGRES_AWAY, REDIS_AWAY

logger = logging.getLogger(__name__)


async def every(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    """Call `work` again and again, after a pause of `seconds` each time, until cancelled."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await work()
        except (*POSTGRES_AWAY, *REDIS_AWAY) as error:  # the next round finds what this one missed
            logger.warning("%s waits (%s)", getattr(work, "__name__", "a task"), type(error).__name__)
        except Exception:
            faults.record(getattr(work, "__qualname__", "a task"))
