"""Deletes old rows from every growing table, in small steps, by one worker at a time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from django.conf import settings
from django.db import connection, transaction

from integrations.database.advisory_locks import AdvisoryLock, try_lock
from integrations.monitoring import notices
from rooms import faults
from rooms.database import threads
from rooms.database.statements import fetch
from rooms.faults import POSTGRES_AWAY

logger = logging.getLogger(__name__)

RULE_MINUTES_KEEP_SECONDS = 604_800.0  # a week of figures by the minute; totals stay
NOTICE_KEEP_SECONDS = 2_592_000.0  # dismissed notices: a month
CLEANUP_SECONDS = 60.0  # between two rounds
CLEANUP_BATCH_ROWS = 2000  # in one transaction: claims of the same rows wait for it
CALLBACK_KEEP_SECONDS = 604_800.0  # uses of callback tokens: a week

LEAST_PAUSE_SECONDS: Final = 0.01

# A round walks over the deliveries by id, which is about the order of their age; `place` is the last id of the step
# before. Unfinished deliveries stay, however old. A round ends at the first delivery that is too young to be deleted.
DELIVERIES: Final = """
WITH looked_at AS MATERIALIZED (
    SELECT id, state, created_at, finished_at FROM integrations_delivery
    WHERE id > %(place)s ORDER BY id LIMIT %(limit)s
), old AS (
    SELECT id FROM looked_at
    WHERE finished_at < CASE WHEN state = 'dead' THEN %(dead_before)s ELSE %(before)s END
), tries AS (
    DELETE FROM integrations_attempt WHERE delivery_id IN (SELECT id FROM old)
), deleted AS (
    DELETE FROM integrations_delivery WHERE id IN (SELECT id FROM old) RETURNING id
)
SELECT (SELECT count(*) FROM deleted),
    (SELECT max(id) FROM looked_at),
    (SELECT count(*) FROM looked_at),
    coalesce((SELECT max(created_at) FROM looked_at) >= greatest(%(before)s, %(dead_before)s), false)
"""

# Tables whose rows are deleted by a time of their own; each has an index on it.
MINUTES: Final = """
DELETE FROM integrations_ruleminute WHERE id IN (
    SELECT id FROM integrations_ruleminute
    WHERE minute < %(before)s AND minute > '1971-01-01' ORDER BY minute LIMIT %(limit)s)
"""
CALLBACKS: Final = """
DELETE FROM integrations_callbackuse WHERE id IN (
    SELECT id FROM integrations_callbackuse WHERE at < %(before)s ORDER BY at LIMIT %(limit)s)
"""
REVOCATIONS: Final = """
DELETE FROM integrations_revocation WHERE id IN (
    SELECT id FROM integrations_revocation WHERE expires_at < %(before)s ORDER BY expires_at LIMIT %(limit)s)
"""
NONCES: Final = """
DELETE FROM integrations_usednonce WHERE id IN (
    SELECT id FROM integrations_usednonce WHERE expires_at < %(before)s ORDER BY expires_at
    LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
"""

CleanupStep = Callable[[datetime], bool]  # one transaction; returns whether there may be more to delete


class Cleanup:
    """Deletes old rows in one worker."""

    def __init__(self) -> None:
        self.deleted: Counter[str] = Counter()
        self._place = 0

    async def run(self) -> None:
        """Clean up every CLEANUP_SECONDS until cancelled, with a pause after each transaction as long as it took."""
        while True:
            await asyncio.sleep(CLEANUP_SECONDS)
            for step in self.steps:
                try:
                    await self._until_done(step)
                except POSTGRES_AWAY as error:
                    logger.warning("Old rows could not be deleted (%s); trying again.", type(error).__name__)
                except Exception:
                    faults.record("cleanup")

    @property
    def steps(self) -> tuple[CleanupStep, ...]:
        """The steps of a cleanup, each in transactions of CLEANUP_BATCH_ROWS."""
        return (self.clean_deliveries, self.clean_minutes, self.clean_callbacks, self.clean_expired, self.clean_notices)

    async def _until_done(self, step: CleanupStep) -> None:
        more = True
        while more:
            began = time.monotonic()
            more = await threads.run(_alone, step, datetime.now(UTC))
            await asyncio.sleep(max(time.monotonic() - began, LEAST_PAUSE_SECONDS))

    def clean_deliveries(self, now: datetime) -> bool:
        """Delete the old ones among the next deliveries, with their attempts."""
        ((deleted, place, seen, is_young),) = fetch(
            DELIVERIES,
            place=self._place,
            limit=CLEANUP_BATCH_ROWS,
            before=now - timedelta(seconds=settings.DELIVERY_KEEP_SECONDS),
            dead_before=now - timedelta(seconds=settings.DELIVERY_DEAD_KEEP_SECONDS),
        )
        self.deleted["deliveries"] += deleted
        is_over = is_young or seen < CLEANUP_BATCH_ROWS
        self._place = 0 if is_over else place
        return not is_over

    def clean_minutes(self, now: datetime) -> bool:
        """Delete old figures by the minute; the totals stay."""
        return self._delete("minutes", MINUTES, now - timedelta(seconds=RULE_MINUTES_KEEP_SECONDS))

    def clean_callbacks(self, now: datetime) -> bool:
        """Delete old uses of callback tokens."""
        return self._delete("callbacks", CALLBACKS, now - timedelta(seconds=CALLBACK_KEEP_SECONDS))

    def clean_expired(self, now: datetime) -> bool:
        """Delete expired revocations and nonces."""
        more = self._delete("revocations", REVOCATIONS, now)
        return self._delete("nonces", NONCES, now) or more

    def clean_notices(self, now: datetime) -> bool:
        """Delete notices that were dismissed long ago."""
        before = now - timedelta(seconds=NOTICE_KEEP_SECONDS)
        return self._noted("notices", notices.tidy(before=before, limit=CLEANUP_BATCH_ROWS))

    def _delete(self, label: str, sql: str, before: datetime) -> bool:
        with connection.cursor() as cursor:
            cursor.execute(sql, {"before": before, "limit": CLEANUP_BATCH_ROWS})
            return self._noted(label, cursor.rowcount)

    def _noted(self, label: str, count: int) -> bool:
        self.deleted[label] += count
        return count >= CLEANUP_BATCH_ROWS


def _alone(step: CleanupStep, now: datetime) -> bool:
    """Run a step unless another worker is running one."""
    with transaction.atomic():
        return try_lock(AdvisoryLock.CLEANING) and step(now)
