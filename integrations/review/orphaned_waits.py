"""Ends the wait of messages for rules that were switched off.

Switching a rule off ends all waits for it. But a transaction that began before may still make a message wait for it, so
a worker looks once more, when all such transactions have ended.
"""

from __future__ import annotations

import asyncio
import logging

from django.db.models import Q
from django.utils import timezone

from integrations.matching import rule_book
from integrations.models import IntegrationRule, When
from integrations.review.reviewer import awaiting_of
from rooms import faults
from rooms.database import threads
from rooms.faults import POSTGRES_AWAY
from rooms.review import deadlines

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 5.0  # longer than a transaction that accepts messages takes
SWEEP_TIMEOUT_SECONDS = 30.0


class OrphanedWaits:
    """Runs the check in one worker, some seconds after each change of a rule. `run` until cancelled."""

    def __init__(self) -> None:
        self._seen = ""
        self._swept = ""

    async def run(self) -> None:
        """Check every SWEEP_SECONDS whether a rule has changed."""
        while True:
            try:
                # After a timeout the thread ends by itself: a worker's statements have a time limit.
                # Not wait_for: in Python 3.11 that loses a cancellation which comes as the call ends.
                async with asyncio.timeout(SWEEP_TIMEOUT_SECONDS):
                    await threads.run(self.sweep)
            except (*POSTGRES_AWAY, TimeoutError) as error:
                logger.warning("Waits for rules that are off could not be ended (%s).", type(error).__name__)
            except Exception:
                faults.record("waits for rules that are off")
            await asyncio.sleep(SWEEP_SECONDS)

    def sweep(self) -> int:
        """End the waits for rules that do not decide, in the second call after a change. Return how many."""
        version = rule_book.read().version
        if version == self._swept:
            return 0
        if version != self._seen:
            self._seen = version
            return 0
        idle = IntegrationRule.objects.filter(Q(enabled=False) | Q(shadow_of__isnull=False), when=When.BEFORE)
        ended = sum(deadlines.hasten(awaiting_of(pk), now=timezone.now()) for pk in idle.values_list("pk", flat=True))
        self._swept = version
        return ended
