"""The moment by Postgres' clock, as one worker knows it: hosts may disagree about it, their deadlines must not."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

logger = logging.getLogger(__name__)

NOISE = timedelta(seconds=0.05)  # asking takes time itself
TOLD = timedelta(seconds=1)


class Clock:
    """This host's clock, set right by what each heartbeat learns."""

    def __init__(self) -> None:
        self.is_set = False
        self._ahead = timedelta(0)

    def now(self) -> datetime:
        """Return the moment by Postgres' clock."""
        return datetime.now(UTC) + self._ahead

    def set(self, ahead: timedelta) -> None:
        """Take in by how much Postgres' clock is ahead of this host's."""
        ahead = ahead if abs(ahead) > NOISE else timedelta(0)
        if abs(ahead - self._ahead) > TOLD:
            logger.warning("This host's clock differs from Postgres' by %.1f seconds.", -ahead.total_seconds())
        self._ahead, self.is_set = ahead, True
