"""Deadlines of reviews: messages whose verdict does not come in time get the one that their rule names for that."""

from __future__ import annotations

import logging
import random
from datetime import datetime, timedelta

from django.db import OperationalError, transaction

from rooms.database.patience import is_lock_timeout, limit_lock_waits
from rooms.errors import Code
from rooms.log import room_locks
from rooms.review import deadline_queries
from rooms.review.contract import Decision, Verdict, VerdictAction
from rooms.review.decide import decide
from rooms.review.late import deadline_of

logger = logging.getLogger(__name__)

EXPIRE_BATCH_MESSAGES = 500
PASSED_OVER = timedelta(seconds=3)  # a lock is held for milliseconds: whoever looks again finds most rooms free
LOCK_SECONDS = 1.0
HASTEN_BATCH_MESSAGES = 500


def expire(*, now: datetime | None = None) -> int:
    """Give overdue messages the verdict that their rule names for the deadline. Return how many there were.

    By Postgres' clock where no moment is given: a host whose clock is ahead must not end the reviews of all others.
    Every gateway and worker calls this. Each takes messages of rooms that nobody has locked, so that no two do the
    same ones, and a room that is stuck keeps no other waiting. A room that is always busy gets its turn too: when its
    messages are overdue for longer than PASSED_OVER, one call in a while waits for it.
    """
    now = now or deadline_queries.read_clock()
    expired = _expire_unlocked(now)
    if expired < EXPIRE_BATCH_MESSAGES:
        expired += _expire_passed_over(now)
    return expired


def _expire_unlocked(now: datetime) -> int:
    with transaction.atomic():
        overdue = deadline_queries.lock_overdue(now, EXPIRE_BATCH_MESSAGES)
        decide([_decision_at_deadline(*one) for one in overdue], now=now)
    return len(overdue)


def _expire_passed_over(now: datetime) -> int:
    """Wait a moment for the lock of one room whose messages were passed over for long, and expire what it has."""
    rooms = deadline_queries.find_rooms_overdue(now - PASSED_OVER, EXPIRE_BATCH_MESSAGES)
    if not rooms:
        return 0
    # Any of them: were it the one that waits for longest, a room that is stuck would keep the others waiting.
    room = random.choice(rooms)
    try:
        with transaction.atomic():
            limit_lock_waits(LOCK_SECONDS)
            room_locks.lock_rooms([room])
            return _expire_unlocked(now)
    except OperationalError as error:
        if not is_lock_timeout(error):
            raise
        logger.warning("overdue messages wait for room %d, which is locked", room)
        return 0


def hasten(awaiting: str, *, now: datetime) -> int:
    """End the wait of all messages that await a step: their deadline is now. Return how many they were.

    `expire` then gives them the verdict that was named for the deadline. In bounded steps, each a transaction of its
    own unless the caller has one open.
    """
    hastened, place = 0, (now, 0)
    while True:
        with transaction.atomic():
            found = deadline_queries.find_awaiting(awaiting, place, HASTEN_BATCH_MESSAGES)
            if not found:
                return hastened
            room_locks.lock_rooms({room for _, _, room in found})
            hastened += deadline_queries.end_waits([message for _, message, _ in found], awaiting, now)
            place = found[-1][:2]


def _decision_at_deadline(message: int, awaiting: str, at_deadline: str) -> Decision:
    verdict = Verdict(
        action=VerdictAction(at_deadline),
        code=Code.REJECTED_BY_RULE,
        reason="The message could not be checked in time.",
    )
    return Decision(message=message, awaiting=awaiting, verdict=verdict, by=deadline_of(awaiting))
