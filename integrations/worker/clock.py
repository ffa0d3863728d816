"""Postgres' clock as a worker knows it: the clocks of hosts differ, but all must agree when a deadline has passed."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

logger = logging.getLogger(__name__)

NOISE = timedelta(seconds=0.05)  # smaller differences are those of the query itself
LOGGED_DIFFERENCE = timedelta(seconds=1)


class Clock:
    """This host's clock, corrected by the difference that each heartbeat measures."""

    def __init__(self) -> None:
        self.is_set = False
        self._ahead = timedelta(0)

    def now(self) -> datetime:
        """Return the time of Postgres' clock."""
        return datetime.now(UTC) + self._ahead

    def set(self, ahead: timedelta) -> None:
        """Store by how much Postgres' clock is ahead of this host's."""
        ahead = ahead if abs(ahead) > NOISE else timedelta(0)
        if abs(ahead - self._ahead) > LOGGED_DIFFERENCE:
            logger.warning("This host's clock differs from Postgres' by %.1f seconds.", -ahead.total_seconds())
        self._ahead, self.is_set = ahead, True
