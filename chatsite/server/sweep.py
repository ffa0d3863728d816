"""One timer for all deadlines of a server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from rooms import faults


def sweep(loop: asyncio.AbstractEventLoop, seconds: float, work: Callable[[float], None]) -> None:
    """Call `work` with the loop's time, now and again after `seconds`, for as long as the loop runs."""
    try:
        work(loop.time())
    except Exception:  # one fault must not end the deadlines of everybody
        faults.record("server deadlines")
    finally:
        loop.call_later(seconds, sweep, loop, seconds, work)
