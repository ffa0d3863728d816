"""Stores the results of calls: attempts, the new state of their deliveries, and the verdicts of the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from integrations.models import Delivery, DeliveryState
from integrations.outbox import queries
from integrations.outbox.conclusions import CallReport, Conclusion, Fate
from integrations.wire.verdicts import as_text
from rooms.database.statements import Statement, together
from rooms.log.outcomes import Outcome, OutcomeKind
from rooms.review import decide
from rooms.review import overrule as late
from rooms.review.contract import Decision

STATES = {
    Fate.DELIVERED: DeliveryState.DELIVERED,
    Fate.RETRY: DeliveryState.PENDING,
    Fate.DEAD: DeliveryState.DEAD,
    Fate.CANCELLED: DeliveryState.CANCELLED,
}
DECIDED_ITSELF = "It decided in place of the rule, whose target was down: there is nothing to compare."  # for the admin
UNCOUNTED = (OutcomeKind.STALE, OutcomeKind.UNKNOWN)


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """The outcomes of the verdicts. `stale`: deliveries whose message had been decided before."""

    outcomes: Sequence[Outcome]
    stale: Sequence[int]


def record_singles(
    reports: Sequence[CallReport],
    decisions: Mapping[int, Decision],
    *,
    owner: str,
    now: datetime,
    lock_seconds: float | None = None,
) -> Recorded:
    """Store the results of calls outside lanes together with their verdicts; `decisions` are by delivery.

    Verdicts are applied first because they lock the rooms. A verdict that comes late, or from a worker whose lease
    ran out, still counts: each message takes its first verdict. `lock_seconds` limits each wait for a room's lock.
    """
    with transaction.atomic():
        order = list(decisions)
        outcomes = decide.decide([decisions[delivery] for delivery in order], now=now, lock_seconds=lock_seconds)
        answers, stale = _counted(order, outcomes, decisions)
        conclusions = [one for report in reports for one in report.conclusions]
        together([*storing(conclusions, now, answers=answers), *_attempts(reports, owner), *_sparing(reports, now)])
    return Recorded(outcomes=outcomes, stale=stale)


def overrule(decisions: Mapping[int, Decision], *, now: datetime, lock_seconds: float | None = None) -> Recorded:
    """Apply verdicts that came after their deadline had decided; `decisions` are by delivery."""
    with transaction.atomic():
        order = list(decisions)
        outcomes = late.overrule([decisions[delivery] for delivery in order], now=now, lock_seconds=lock_seconds)
        answers, stale = _counted(order, outcomes, decisions)
        if answers:
            together([(queries.STORE_ANSWERS, [list(answers), list(answers.values())])])
    return Recorded(outcomes=outcomes, stale=stale)


def _counted(
    order: Sequence[int], outcomes: Sequence[Outcome], decisions: Mapping[int, Decision]
) -> tuple[dict[int, str], list[int]]:
    answers: dict[int, str] = {}
    stale: list[int] = []
    for delivery, outcome in zip(order, outcomes, strict=True):
        if outcome.kind not in UNCOUNTED:
            answers[delivery] = as_text(decisions[delivery].verdict)
        elif outcome.kind is OutcomeKind.STALE:
            stale.append(delivery)
    return answers, stale


@dataclass(frozen=True, kw_only=True)
class RecordedLanes:
    """`kept`: how many lanes were still held. `has_more`: whether one of them has another delivery due now."""

    kept: int
    has_more: bool


def record_lanes(reports: Sequence[CallReport], *, owner: str, now: datetime) -> RecordedLanes:
    """Store the results of calls for lanes, and give the lanes back."""
    held = {report.lane.id: report for report in reports if report.lane is not None}
    fences = [report.lane.fence for report in held.values() if report.lane is not None]
    with transaction.atomic():
        locked = {lane for (lane,) in together([(queries.LOCK_LANES, [list(held), fences])])[0]}
        mine = {lane: report for lane, report in held.items() if lane in locked}
        due, narrow = [one.lane_due_at for one in mine.values()], [one.narrow for one in mine.values()]
        conclusions = [one for report in mine.values() for one in report.conclusions]
        released = together(
            [*_attempts(reports, owner), *storing(conclusions, now), *releasing(list(mine), due, narrow)]
        )[-1:]
    has_more = any(moment is not None and moment <= now for rows in released for (moment,) in rows if mine)
    return RecordedLanes(kept=len(mine), has_more=has_more)


# --- Statements -------------------------------------------------------------------------------------------


def storing(
    conclusions: Sequence[Conclusion], now: datetime, *, answers: Mapping[int, str] | None = None
) -> list[Statement]:
    """Return the statement that stores conclusions; `answers`: the verdicts that counted, by delivery."""
    if not conclusions:
        return []
    counted = answers or {}
    return [
        (
            queries.STORE_RESULTS,
            [
                [one.delivery.id for one in conclusions],
                [one.delivery.attempt for one in conclusions],
                [STATES[one.fate].value for one in conclusions],
                [one.due_at for one in conclusions],
                [None if one.fate is Fate.RETRY else now for one in conclusions],
                [one.status for one in conclusions],
                [one.error for one in conclusions],
                [counted.get(one.delivery.id, one.answer) for one in conclusions],
                [one.forgive for one in conclusions],
            ],
        )
    ]


def releasing(lanes: Sequence[int], due: Sequence[datetime], narrow: Sequence[int]) -> list[Statement]:
    """Return the statement that gives lanes back. The transaction must hold their locks."""
    return [(queries.RELEASE_LANES, [list(lanes), list(due), list(narrow)])] if lanes else []


def _sparing(reports: Sequence[CallReport], now: datetime) -> list[Statement]:
    """Return the statement that cancels shadow deliveries of messages which the shadow decided as a stand-in."""
    answered = [
        (report.stand_in_id, one.delivery.message_id)
        for report in reports
        if report.by_stand_in
        for one in report.conclusions
        if one.fate is Fate.DELIVERED
    ]
    if not answered:
        return []
    rules, messages = zip(*answered, strict=True)
    return [(queries.SPARE_SHADOWS, [now, DECIDED_ITSELF, list(rules), list(messages)])]


def _attempts(reports: Sequence[CallReport], owner: str) -> list[Statement]:
    made = [(report, one) for report in reports if not report.is_shared for one in report.conclusions]
    if not made:
        return []
    return [
        (
            queries.ADD_ATTEMPTS,
            [
                owner,
                [one.delivery.id for _, one in made],
                [one.delivery.attempt for _, one in made],
                [report.started_at for report, _ in made],
                [report.duration_ms for report, _ in made],
                [one.status for _, one in made],
                [one.error for _, one in made],
                [report.response for report, _ in made],
                [report.events for report, _ in made],
                [report.by_stand_in for report, _ in made],
            ],
        )
    ]


# --- Verdicts by callback ---------------------------------------------------------------------------------


def store_callback_verdict(*, rule_id: int, message_id: int, text: str) -> None:
    """Store a verdict that came by callback with the delivery that asked for it."""
    Delivery.objects.filter(message_id=message_id, rule_id=rule_id, deadline__isnull=False).update(answer=text)


def read_verdict(*, rule_id: int, message_id: int) -> str | None:
    """Return the verdict of this rule that counted, "" if none did, None if the rule was never called."""
    mine = Delivery.objects.filter(message_id=message_id, rule_id=rule_id, deadline__isnull=False)
    return mine.values_list("answer", flat=True).first()
