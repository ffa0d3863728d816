"""Late verdicts: from a Lambda, a human or the deadline. Each counts once."""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db import OperationalError, transaction

from rooms.database.patience import is_lock_timeout, limit_lock_waits
from rooms.database.small_tables import versions_read
from rooms.errors import Code
from rooms.log import queries
from rooms.log.outcomes import Outcome, OutcomeKind, outcome_of
from rooms.log.rows import Row
from rooms.models import Status
from rooms.review import decide_queries, waiting_queries
from rooms.review.contract import STEP_MAX_CHARACTERS, Action, Decision, Verdict
from rooms.review.decide_queries import Found
from rooms.review.decisions import Settling
from rooms.review.pipeline import apply

logger = logging.getLogger(__name__)

DEADLINE = "deadline of"
EXPIRE_BATCH_MESSAGES = 500
PASSED_OVER = timedelta(seconds=3)  # a lock is held for milliseconds: whoever looks again finds most rooms free
LOCK_SECONDS = 1.0
HASTEN_BATCH_MESSAGES = 500


def decide(decisions: Sequence[Decision], *, now: datetime) -> list[Outcome]:
    """Apply verdicts and publish what they set free, in one transaction. Return an outcome for each, in order.

    A verdict counts only while its message awaits exactly that step; a later one is STALE and changes nothing.
    May be called inside the caller's transaction, so that a delivery's state commits with its verdict.
    """
    if not decisions:
        return []
    with transaction.atomic():
        found = decide_queries.look([decision.message for decision in decisions])
        with versions_read(found.versions):
            settling = Settling(found, now)
            stale = _apply_all(decisions, settling)
            settling.conclude()
    return [outcome_of_decision(decision, place in stale, found) for place, decision in enumerate(decisions)]


def expire(*, now: datetime | None = None) -> int:
    """Give overdue messages the verdict that their rule names for the deadline. Return how many there were.

    By Postgres' clock where no moment is given: a host whose clock is ahead must not end the reviews of all others.
    Every gateway and worker calls this. Each takes messages of rooms that nobody has locked, so that no two do the
    same ones, and a room that is stuck keeps no other waiting. A room that is always busy gets its turn too: when its
    messages are overdue for longer than PASSED_OVER, one call in a while waits for it.
    """
    now = now or waiting_queries.read_clock()
    expired = _expire_unlocked(now)
    if expired < EXPIRE_BATCH_MESSAGES:
        expired += _expire_passed_over(now)
    return expired


def _expire_unlocked(now: datetime) -> int:
    with transaction.atomic():
        overdue = waiting_queries.lock_overdue(now, EXPIRE_BATCH_MESSAGES)
        decide([_overdue_decision(*one) for one in overdue], now=now)
    return len(overdue)


def _expire_passed_over(now: datetime) -> int:
    """Wait a moment for the lock of one room whose messages were passed over for long, and expire what it has."""
    rooms = waiting_queries.find_rooms_overdue(now - PASSED_OVER, EXPIRE_BATCH_MESSAGES)
    if not rooms:
        return 0
    # Any of them: were it the one that waits for longest, a room that is stuck would keep the others waiting.
    room = random.choice(rooms)
    try:
        with transaction.atomic():
            limit_lock_waits(LOCK_SECONDS)
            queries.lock_rooms([room])
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
            found = waiting_queries.find_awaiting(awaiting, place, HASTEN_BATCH_MESSAGES)
            if not found:
                return hastened
            queries.lock_rooms({room for _, _, room in found})
            hastened += waiting_queries.end_waits([message for _, message, _ in found], awaiting, now)
            place = found[-1][:2]


def deadline_of(awaiting: str) -> str:
    """Return the step under which the verdict of a deadline is recorded."""
    return f"{DEADLINE} {awaiting}"[:STEP_MAX_CHARACTERS]


def in_turn(decisions: Sequence[Decision]) -> list[list[tuple[int, Decision]]]:
    """Return decisions with their places, in turns of one a message: what the first does counts for the second."""
    turns: list[list[tuple[int, Decision]]] = []
    number: Counter[int] = Counter()
    for place, decision in enumerate(decisions):
        if number[decision.message] == len(turns):
            turns.append([])
        turns[number[decision.message]].append((place, decision))
        number[decision.message] += 1
    return turns


def _apply_all(decisions: Sequence[Decision], settling: Settling) -> set[int]:
    """Let decisions change their rows. Return the places of those that came too late."""
    stale: set[int] = set()
    for turn in in_turn(decisions):
        passed: list[Row] = []
        for place, decision in turn:
            row = settling.rows.get(decision.message)
            if row is None or row.awaiting != decision.awaiting or row.status not in (Status.ACCEPTED, Status.HELD):
                stale.add(place)
            elif _apply(row, decision, settling):
                passed.append(row)
        settling.resume(passed)
    return stale


def _apply(row: Row, decision: Decision, settling: Settling) -> bool:
    """Let a decision change its row. Return whether the reviewers that come after are to be asked."""
    by_human = row.status == Status.HELD
    apply(row, decision.verdict)
    settling.note(row, decision.by or decision.awaiting, decision.verdict)
    settling.change(row)
    if decision.verdict.action in (Action.REJECT, Action.HOLD):
        return False
    if by_human:
        # A moderator's word is the last one, and comes long after: it does not wait for the author's turn.
        settling.publish(row)
    return not by_human


def _overdue_decision(message: int, awaiting: str, at_deadline: str) -> Decision:
    verdict = Verdict(
        action=Action(at_deadline), code=Code.REJECTED_BY_RULE, reason="The message could not be checked in time."
    )
    return Decision(message=message, awaiting=awaiting, verdict=verdict, by=deadline_of(awaiting))


def outcome_of_decision(decision: Decision, stale: bool, found: Found) -> Outcome:
    """Return what became of one decision's message."""
    row = found.rows.get(decision.message)
    if row is None:
        return Outcome(kind=OutcomeKind.UNKNOWN, message=decision.message)
    if stale:
        return Outcome(kind=OutcomeKind.STALE, message=decision.message)
    return outcome_of(row, found.rooms[row.room_id].epoch)
