"""Decides messages that await a verdict: by a Lambda, a moderator, or the deadline. Each verdict counts once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from django.db import transaction

from rooms.database.small_tables import versions_read
from rooms.log.outcomes import Outcome, OutcomeKind, outcome_of
from rooms.log.rows import Row
from rooms.models import Status
from rooms.review import decision_queries
from rooms.review.contract import Decision
from rooms.review.decision_queries import Undecided
from rooms.review.decisions import Decisions


def decide(decisions: Sequence[Decision], *, now: datetime, lock_seconds: float | None = None) -> list[Outcome]:
    """Apply verdicts and publish the messages that become ready, in one transaction. Return outcomes, in order.

    A verdict counts only while its message awaits exactly that step; otherwise it is STALE and changes nothing.
    May be called inside the caller's transaction, so that a delivery's state commits with its verdict.
    `lock_seconds` limits each wait of the transaction for a lock (rooms.database.patience.is_lock_timeout).
    """
    if not decisions:
        return []
    with transaction.atomic():
        undecided = decision_queries.read_locked([decision.message for decision in decisions], lock_seconds)
        with versions_read(undecided.versions):
            applied = Decisions(undecided, now)
            stale = _apply_all(decisions, applied)
            applied.conclude()
    return [outcome_of_decision(decision, place in stale, undecided) for place, decision in enumerate(decisions)]


def rounds_of(decisions: Sequence[Decision]) -> list[list[tuple[int, Decision]]]:
    """Return decisions with their places, in rounds of one decision a message: later ones build on earlier ones."""
    rounds: list[list[tuple[int, Decision]]] = []
    number: Counter[int] = Counter()
    for place, decision in enumerate(decisions):
        if number[decision.message] == len(rounds):
            rounds.append([])
        rounds[number[decision.message]].append((place, decision))
        number[decision.message] += 1
    return rounds


def outcome_of_decision(decision: Decision, is_stale: bool, undecided: Undecided) -> Outcome:
    """Return the outcome of the message of one decision."""
    row = undecided.rows.get(decision.message)
    if row is None:
        return Outcome(kind=OutcomeKind.UNKNOWN, message=decision.message)
    if is_stale:
        return Outcome(kind=OutcomeKind.STALE, message=decision.message)
    return outcome_of(row, undecided.rooms[row.room_id].epoch)


def _apply_all(decisions: Sequence[Decision], applied: Decisions) -> set[int]:
    """Apply decisions to their rows. Return the places of those that are stale."""
    stale: set[int] = set()
    for round_ in rounds_of(decisions):
        passed: list[Row] = []
        for place, decision in round_:
            row = applied.rows.get(decision.message)
            if row is None or row.awaiting != decision.awaiting or row.status not in (Status.ACCEPTED, Status.HELD):
                stale.add(place)
            elif _apply(row, decision, applied):
                passed.append(row)
        applied.resume(passed)
    return stale


def _apply(row: Row, decision: Decision, applied: Decisions) -> bool:
    """Apply a decision to its row. Return whether the later reviewers must be asked."""
    by_human = row.status == Status.HELD
    applied.apply(row, decision.verdict)
    applied.record(row, decision.by or decision.awaiting, decision.verdict)
    if decision.verdict.action.refuses:
        return False
    if by_human:
        # A moderator has the last word, often hours later: the message is published out of its author's order.
        applied.publish(row)
    return not by_human
