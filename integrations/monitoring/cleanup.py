"""Deleting what was kept long enough: little by little, by one worker at a time, from every table that only grows."""

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

LEAST_PAUSE_SECONDS: Final = 0.01

# Deliveries are looked at in the order of their ids, which is about that of their ages, each once a round: `place` is
# where the last step ended. Unfinished ones stay, however old. A round ends at the first that is younger than any
# that may go.
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

# Rows that end at a time of their own, or were written at one; each has an index by it.
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

CleanupStep = Callable[[datetime], bool]  # does one transaction at a time, and tells whether there may be more to do


class Cleanup:
    """The cleaning of one process; `place` is how far the round through the deliveries has come."""

    def __init__(self) -> None:
        self.deleted: Counter[str] = Counter()
        self._place = 0

    async def run(self) -> None:
        """Clean every CLEANUP_SECONDS until cancelled. After each transaction it rests for as long as that took."""
        while True:
            await asyncio.sleep(settings.CLEANUP_SECONDS)
            for step in self.steps:
                try:
                    await self._until_done(step)
                except POSTGRES_AWAY as error:
                    logger.warning("Old rows could not be deleted (%s); trying again.", type(error).__name__)
                except Exception:
                    faults.record("cleanup")

    @property
    def steps(self) -> tuple[CleanupStep, ...]:
        """What is to be done, each in transactions of CLEANUP_BATCH_ROWS."""
        return (self.clean_deliveries, self.clean_minutes, self.clean_callbacks, self.clean_expired, self.clean_notices)

    async def _until_done(self, step: CleanupStep) -> None:
        more = True
        while more:
            began = time.monotonic()
            more = await threads.run(_alone, step, datetime.now(UTC))
            await asyncio.sleep(max(time.monotonic() - began, LEAST_PAUSE_SECONDS))

    def clean_deliveries(self, now: datetime) -> bool:
        """Look at the next deliveries, and delete those that were kept long enough, with their attempts."""
        ((deleted, place, seen, is_young),) = fetch(
            DELIVERIES,
            place=self._place,
            limit=settings.CLEANUP_BATCH_ROWS,
            before=now - timedelta(seconds=settings.DELIVERY_KEEP_SECONDS),
            dead_before=now - timedelta(seconds=settings.DELIVERY_DEAD_KEEP_SECONDS),
        )
        self.deleted["deliveries"] += deleted
        is_over = is_young or seen < settings.CLEANUP_BATCH_ROWS
        self._place = 0 if is_over else place
        return not is_over

    def clean_minutes(self, now: datetime) -> bool:
        """Delete figures by the minute; the totals stay."""
        return self._delete("minutes", MINUTES, now - timedelta(seconds=settings.RULE_MINUTES_KEEP_SECONDS))

    def clean_callbacks(self, now: datetime) -> bool:
        """Delete uses of callback tokens."""
        return self._delete("callbacks", CALLBACKS, now - timedelta(seconds=settings.CALLBACK_KEEP_SECONDS))

    def clean_expired(self, now: datetime) -> bool:
        """Delete revocations whose last token has ended, and nonces that no request can use any more."""
        more = self._delete("revocations", REVOCATIONS, now)
        return self._delete("nonces", NONCES, now) or more

    def clean_notices(self, now: datetime) -> bool:
        """Delete notices that were dismissed long ago."""
        before = now - timedelta(seconds=settings.NOTICE_KEEP_SECONDS)
        return self._noted("notices", notices.tidy(before=before, limit=settings.CLEANUP_BATCH_ROWS))

    def _delete(self, label: str, sql: str, before: datetime) -> bool:
        with connection.cursor() as cursor:
            cursor.execute(sql, {"before": before, "limit": settings.CLEANUP_BATCH_ROWS})
            return self._noted(label, cursor.rowcount)

    def _noted(self, label: str, count: int) -> bool:
        self.deleted[label] += count
        return count >= settings.CLEANUP_BATCH_ROWS


def _alone(step: CleanupStep, now: datetime) -> bool:
    """Do a step unless another worker is doing one."""
    with transaction.atomic():
        return try_lock(AdvisoryLock.CLEANING) and step(now)
