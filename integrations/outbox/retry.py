"""Decides whether and when a failed call is retried. Pure: chance and clock are given."""

from __future__ import annotations

from collections.abc import Callable
from email.utils import parsedate_to_datetime
from enum import Enum

FIRST_DELAY_SECONDS = 1.0
MAX_DELAY_SECONDS = 3600.0
RETRY_AFTER_MAX_SECONDS = 3600.0
# A message waits for a verdict: retries are quick at first, and go on until its budget ends. With a budget of a day
# they become rare.
VERDICT_DELAYS_SECONDS = (0.2, 1.0, 4.0, 4.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
VERDICT_JITTER = 0.2
# Client errors that another try may not get.
TEMPORARY_STATUSES = frozenset({408, 425, 429})
RETRY_AFTER_STATUSES = frozenset({429, 503})

Chance = Callable[[float, float], float]  # random.uniform


class StatusMeaning(Enum):
    """What an HTTP status means for a delivery."""

    SUCCESS = "success"
    TEMPORARY = "temporary"  # worth another attempt
    FINAL = "final"  # the same call would fail again


def judge(status: int) -> StatusMeaning:
    """Return what an HTTP status means. Only 2xx is success; redirects are never followed."""
    if 200 <= status < 300:
        return StatusMeaning.SUCCESS
    if 300 <= status < 500 and status not in TEMPORARY_STATUSES:
        return StatusMeaning.FINAL
    return StatusMeaning.TEMPORARY


def notification_delay(attempt: int, *, chance: Chance, retry_after: float | None = None) -> float:
    """Return the seconds until the next attempt for a delivery after publish: exponential with full jitter.

    `attempt` is the number of calls made. The endpoint's Retry-After is the minimum.
    """
    ceiling = min(MAX_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2.0 ** min(max(attempt - 1, 0), 32))
    return max(chance(0.0, ceiling), retry_after or 0.0)


def verdict_delay(attempt: int, *, chance: Chance, retry_after: float | None = None) -> float:
    """Return the seconds until the next attempt for a delivery whose message waits for a verdict."""
    delay = VERDICT_DELAYS_SECONDS[min(max(attempt, 1), len(VERDICT_DELAYS_SECONDS)) - 1]
    return max(delay * chance(1 - VERDICT_JITTER, 1 + VERDICT_JITTER), retry_after or 0.0)


def read_retry_after(status: int, header: str | None, *, now: float) -> float | None:
    """Return the seconds of an answer's Retry-After, at most an hour; None without one."""
    if not header or status not in RETRY_AFTER_STATUSES:
        return None
    header = header.strip()
    if header.isascii() and header.isdigit():
        return min(float(header[:12]), RETRY_AFTER_MAX_SECONDS)
    try:
        seconds = parsedate_to_datetime(header).timestamp() - now
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), RETRY_AFTER_MAX_SECONDS)
