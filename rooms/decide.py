"""Late verdicts: from a Lambda, a human or the deadline. Each counts once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.db import transaction

from rooms import announce, pipeline, queries, release, waiting
from rooms.accept import outcome_of
from rooms.errors import Code
from rooms.models import Status
from rooms.models import Verdict as VerdictRecord
from rooms.outcomes import Outcome, OutcomeKind
from rooms.review import Action, Decision, Verdict
from rooms.rows import LockedRoom, Row

DEADLINE = "deadline"
EXPIRE_BATCH_MESSAGES = 500
HASTEN_BATCH_MESSAGES = 500


def decide(decisions: Sequence[Decision], *, now: datetime) -> list[Outcome]:
    """Apply verdicts and publish what they set free, in one transaction. Return an outcome for each, in order.

    A verdict counts only while its message awaits exactly that step; a later one is STALE and changes nothing.
    May be called inside the caller's transaction, so that a delivery's state commits with its verdict.
    """
    with transaction.atomic():
        found = queries.find({decision.message for decision in decisions})
        rooms = queries.lock_rooms({row.room_id for row in found.values()})
        # Read again under the locks: what was awaited a moment ago may have been decided since.
        rows = queries.find(found)
        changed: dict[int, Row] = {}
        stale: set[int] = set()
        deferred: list[pipeline.Deferred] = []
        for place, decision in enumerate(decisions):
            row = rows.get(decision.message)
            if row is None or row.awaiting != decision.awaiting or row.status not in (Status.ACCEPTED, Status.HELD):
                stale.add(place)
                continue
            deferred += _apply(row, decision, rooms, now)
            changed[row.id] = row
        _record_verdicts([decision for place, decision in enumerate(decisions) if place not in stale], now)
        published = _release(changed, rooms, now)
        queries.update(list(changed.values()))
        pipeline.defer(deferred)
        entries = release.tell(release.store(published, rooms))
        news = [
            (row.origin, outcome_of(row, rooms[row.room_id].epoch))
            for row in changed.values()
            if row.origin and row.status not in (Status.ACCEPTED, Status.APPROVED)
        ]
        announce.after_commit(entries=entries, news=news)
    return [_outcome_of_decision(decision, place in stale, rows, rooms) for place, decision in enumerate(decisions)]


def expire(*, now: datetime | None = None) -> int:
    """Give overdue messages the verdict that their rule names for the deadline. Return how many there were.

    By Postgres' clock where no moment is given: a host whose clock is ahead must not end the reviews of all others.
    """
    now = now or waiting.read_clock()
    overdue = waiting.find_overdue(now, EXPIRE_BATCH_MESSAGES)
    if overdue:
        decide([_overdue_decision(row) for row in overdue], now=now)
    return len(overdue)


def hasten(awaiting: str, *, now: datetime) -> int:
    """End the wait of all messages that await a step: their deadline is now. Return how many they were.

    `expire` then gives them the verdict that was named for the deadline. In bounded steps, each a transaction of its
    own unless the caller has one open.
    """
    hastened, place = 0, (now, 0)
    while True:
        with transaction.atomic():
            found = waiting.find_awaiting(awaiting, place, HASTEN_BATCH_MESSAGES)
            if not found:
                return hastened
            queries.lock_rooms({room for _, _, room in found})
            hastened += waiting.end_waits([message for _, message, _ in found], awaiting, now)
            place = found[-1][:2]


def _apply(row: Row, decision: Decision, rooms: dict[int, LockedRoom], now: datetime) -> list[pipeline.Deferred]:
    """Let a decision change its row; where the message passes, ask the reviewers that come after."""
    by_human = row.status == Status.HELD
    pipeline.apply(row, decision.verdict)
    if decision.verdict.action in (Action.REJECT, Action.HOLD):
        return []
    if by_human:
        # A moderator's word is the last one, and comes long after: it does not wait for the author's turn.
        release.publish(row, rooms[row.room_id], now)
        return []
    return pipeline.resume(row, rooms, now)


def _release(changed: dict[int, Row], rooms: dict[int, LockedRoom], now: datetime) -> list[Row]:
    """Publish what is ready of the authors concerned, in order of acceptance. Adds what it published to `changed`."""
    published = [row for row in changed.values() if row.status == Status.PUBLISHED]
    authors = {(row.room_id, row.author) for row in changed.values()}
    decided = [row.id for row in changed.values() if row.status != Status.ACCEPTED]
    undecided = [changed.get(row.id, row) for row in queries.find_undecided(authors, decided)] if authors else []
    for row in release.take_ready(undecided):
        release.publish(row, rooms[row.room_id], now)
        changed[row.id] = row
        published.append(row)
    return published


def _record_verdicts(decisions: Sequence[Decision], now: datetime) -> None:
    VerdictRecord.objects.bulk_create(
        VerdictRecord(
            message_id=decision.message,
            step=(decision.by or decision.awaiting)[:120],
            action=decision.verdict.action,
            reason=decision.verdict.reason[:500],
            decided_at=now,
        )
        for decision in decisions
    )


def _overdue_decision(row: Row) -> Decision:
    verdict = Verdict(
        action=Action(row.at_deadline), code=Code.REJECTED_BY_RULE, reason="The message could not be checked in time."
    )
    return Decision(message=row.id, awaiting=row.awaiting, verdict=verdict, by=f"{DEADLINE} of {row.awaiting}")


def _outcome_of_decision(
    decision: Decision, stale: bool, rows: dict[int, Row], rooms: dict[int, LockedRoom]
) -> Outcome:
    row = rows.get(decision.message)
    if row is None:
        return Outcome(kind=OutcomeKind.UNKNOWN, message=decision.message)
    if stale:
        return Outcome(kind=OutcomeKind.STALE, message=decision.message)
    return outcome_of(row, rooms[row.room_id].epoch)
