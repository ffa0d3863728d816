"""Gives messages whose verdict is overdue the one that their rule names for the deadline."""

from __future__ import annotations

import logging
import random
from datetime import datetime, timedelta

from django.db import OperationalError, transaction

from rooms.database.patience import is_lock_timeout, limit_lock_waits
from rooms.errors import Code
from rooms.log import room_locks
from rooms.log.room_locks import LOCK_SECONDS
from rooms.review import deadline_queries
from rooms.review.contract import Decision, Verdict, VerdictAction
from rooms.review.decide import decide
from rooms.review.late import deadline_of

logger = logging.getLogger(__name__)

EXPIRE_BATCH_MESSAGES = 500
SKIPPED_FOR = timedelta(seconds=3)  # locks are held for milliseconds: the next calls find most rooms unlocked
HASTEN_BATCH_MESSAGES = 500


def expire(*, now: datetime | None = None) -> int:
    """Give overdue messages the verdict that their rule names for the deadline. Return how many there were.

    Without `now` the time is by Postgres' clock: a host whose clock is ahead must not end reviews of all others.
    Every gateway and worker calls this. A call skips rooms that another transaction has locked, so that no two calls
    expire the same messages and a room that is stuck delays no other. For a room that is always locked, calls wait a
    moment once its messages are overdue by more than SKIPPED_FOR.
    """
    now = now or deadline_queries.read_clock()
    expired = _expire_unlocked(now)
    if expired < EXPIRE_BATCH_MESSAGES:
        expired += _expire_skipped(now)
    return expired


def _expire_unlocked(now: datetime) -> int:
    with transaction.atomic():
        overdue = deadline_queries.lock_overdue(now, EXPIRE_BATCH_MESSAGES)
        decide([_decision_at_deadline(*message) for message in overdue], now=now)
    return len(overdue)


def _expire_skipped(now: datetime) -> int:
    """Wait a moment for the lock of one room that was skipped for long, and expire its messages."""
    rooms = deadline_queries.find_rooms_overdue(now - SKIPPED_FOR, EXPIRE_BATCH_MESSAGES)
    if not rooms:
        return 0
    # A random one: if it were the one that is overdue for longest, a room that is stuck would delay the others.
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
    """Set the deadline of all messages that await a step to now. Return how many they were.

    `expire` then gives them the verdict for the deadline. Works in bounded steps, each a transaction of its own unless
    the caller has one open. Messages of rooms that stay locked keep their own deadlines.
    """
    hastened, place = 0, (now, 0)
    while True:
        with transaction.atomic():
            messages = deadline_queries.find_awaiting(awaiting, place, HASTEN_BATCH_MESSAGES)
            if not messages:
                return hastened
            free = room_locks.lock_unless_stuck(room for _, _, room in messages)
            ids = [message for _, message, room in messages if room in free]
            hastened += deadline_queries.end_waits(ids, awaiting, now)
            place = messages[-1][:2]


def _decision_at_deadline(message: int, awaiting: str, at_deadline: str) -> Decision:
    verdict = Verdict(
        action=VerdictAction(at_deadline),
        code=Code.REJECTED_BY_RULE,
        reason="The message could not be checked in time.",
    )
    return Decision(message=message, awaiting=awaiting, verdict=verdict, by=deadline_of(awaiting))
