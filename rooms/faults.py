"""Logs unexpected exceptions with their traceback, and counts them by the place that caught them.

A task that must go on catches by name the exceptions of an absent Postgres or Redis. Any other is a fault:

    except POSTGRES_AWAY as error:
        logger.warning("catching up waits for Postgres (%s)", type(error).__name__)
    except Exception:
        faults.record("catching up")

GET /metrics shows the counts as `chat_unexpected_errors`, labelled by place.
"""

from __future__ import annotations

import logging
from collections import Counter
from threading import Lock

from django.db import InterfaceError, OperationalError
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

POSTGRES_AWAY = (OperationalError, InterfaceError)
REDIS_AWAY = (RedisError, OSError, TimeoutError)

_lock = Lock()  # database threads record faults too
_counts: Counter[str] = Counter()


def record(place: str, error: BaseException | None = None) -> None:
    """Log an exception with its traceback, and count it; without `error` the one that an `except` block handles.

    `place` is a constant that names the task, such as "hub pass": each value becomes a label of the metric.
    """
    with _lock:
        _counts[place] += 1
    logger.error("unexpected error in %s; it goes on", place, exc_info=error or True)


def counts() -> dict[str, int]:
    """Return how many exceptions were recorded, by place."""
    with _lock:
        return dict(_counts)
