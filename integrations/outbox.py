"""The outbox: what is owed to rules. The only module that changes the state of a delivery or of a lane.

    owe  --->  pending  --claim-->  delivering  --record-->  delivered | pending again | dead
                  ^                      | lease over            |
                  +----------------------+      resend <---------+          cancelled: nobody needs it any more

Each function is one transaction, or part of the caller's. A claim is a lease: a worker that dies with it is
replaced when it ends, and one that comes back late is told apart by the number of its attempt, or the lane's fence.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction

from integrations import queries
from integrations.calls import Conclusion, Fate, HeldLane, Owed, Report
from integrations.models import Attempt, Delivery, DeliveryState, EventKind, IntegrationRule, Lane
from integrations.verdicts import as_text
from rooms import decide
from rooms.outcomes import Outcome, OutcomeKind
from rooms.review import Decision

CHANNEL = "deliveries"  # of LISTEN and NOTIFY
BATCH_MESSAGES = 100
BATCHES_UNDER_WAY = 4  # calls of one batched rule before publish; more would only make the batches smaller


@dataclass(frozen=True, kw_only=True)
class Debt:
    """An event that a rule must be called for.

    With a `deadline` a verdict is asked for. `in_lane`: after those that the rule is owed of this room already;
    otherwise side by side with them. `wait`: the first call is not made before.
    """

    rule_id: int
    room_id: int
    message_id: int | None
    payload: str
    event: EventKind = EventKind.MESSAGE
    serial: int = 0
    deadline: datetime | None = None
    in_lane: bool = False
    wait: timedelta = timedelta(0)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The deliveries of one call to make, and until when they are ours."""

    rule: IntegrationRule
    owed: Sequence[Owed]
    lane: HeldLane | None = None


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """What a worker may take: calls in all, calls of one rule, and what it has under way by rule."""

    free: int
    share: int
    max_attempts: int
    busy: Mapping[int, int] = field(default_factory=dict)


# --- Owing: in the transaction of the event ---------------------------------------------------------------


def owe(debts: Sequence[Debt], *, now: datetime) -> None:
    """Write a delivery for each debt, and wake the lanes and workers. Call under the locks of the rooms."""
    if not debts:
        return
    _execute(
        queries.ADD_DELIVERIES,
        rules=[debt.rule_id for debt in debts],
        rooms=[debt.room_id for debt in debts],
        messages=[debt.message_id for debt in debts],
        serials=[debt.serial for debt in debts],
        webhook_ids=[f"msg_{secrets.token_hex(12)}" for _ in debts],
        payloads=[debt.payload for debt in debts],
        deadlines=[debt.deadline for debt in debts],
        events=[debt.event.value for debt in debts],
        in_lane=[debt.in_lane for debt in debts],
        due=[now + debt.wait for debt in debts],
        now=now,
    )
    _wake_lanes({(debt.rule_id, debt.room_id) for debt in debts if debt.in_lane}, now)
    wake()


def wake() -> None:
    """Tell the workers, once the transaction commits, that something may be due."""
    _execute("SELECT pg_notify(%(channel)s, '')", channel=CHANNEL)


def _wake_lanes(lanes: set[tuple[int, int]], now: datetime) -> None:
    if lanes:
        rules, rooms = zip(*sorted(lanes), strict=True)
        _execute(queries.WAKE_LANES, rules=list(rules), rooms=list(rooms), now=now)


# --- Claiming ---------------------------------------------------------------------------------------------


def claim_verdicts(capacity: Capacity, *, owner: str, now: datetime, lease: timedelta) -> list[Claim]:
    """Take due deliveries before publish, at most one for each free place. Those no longer needed are cancelled."""
    with transaction.atomic():
        rows = _execute(
            queries.CLAIM_BEFORE,
            **_capacity(capacity),
            batches=BATCHES_UNDER_WAY,
            batch=BATCH_MESSAGES,
            owner=owner,
            now=now,
            lease_until=now + lease,
        )
        taken, ended = [], []
        for *columns, is_waiting in rows:
            one = _owed(columns)
            if not is_waiting or (one.deadline is not None and one.deadline <= now):
                ended.append(_Ending(one, DeliveryState.CANCELLED, "The message was decided without it."))
            elif one.tries > capacity.max_attempts:
                ended.append(_Ending(one, DeliveryState.DEAD, NO_REPORT))
            else:
                taken.append(one)
        _end(ended, now)
    return _group(sorted(taken, key=lambda one: one.id))


def claim_notices(capacity: Capacity, *, owner: str, now: datetime, lease: timedelta) -> list[Claim]:
    """Take due lanes with their oldest deliveries, one call for each lane."""
    with transaction.atomic():
        lanes = dict(
            _execute(queries.CLAIM_LANES, **_capacity(capacity), owner=owner, now=now, lease_until=now + lease)
        )
        if not lanes:
            return []
        rows = _execute(queries.TAKE_HEADS, lanes=list(lanes), batch=BATCH_MESSAGES, owner=owner)
        by_lane: dict[int, list[Owed]] = {lane: [] for lane in lanes}
        ended = []
        for *columns, lane in rows:
            one = _owed(columns)
            if one.tries > capacity.max_attempts:
                ended.append(_Ending(one, DeliveryState.DEAD, NO_REPORT))
            else:
                by_lane[lane].append(one)
        _end(ended, now)
        _rest([lane for lane, owed in by_lane.items() if not owed], now)
    rules = IntegrationRule.objects.in_bulk({owed[0].rule_id for owed in by_lane.values() if owed})
    return [
        Claim(
            rule=rules[owed[0].rule_id],
            owed=sorted(owed, key=lambda one: one.id),
            lane=HeldLane(id=lane, fence=lanes[lane]),
        )
        for lane, owed in by_lane.items()
        if owed and owed[0].rule_id in rules
    ]


NO_REPORT = "Every worker that called ended before it could tell the answer."


def _capacity(capacity: Capacity) -> dict[str, Any]:
    return {
        "limit": capacity.free,
        "share": capacity.share,
        "busy_rules": list(capacity.busy.keys()),
        "busy_calls": list(capacity.busy.values()),
    }


def _owed(columns: Sequence[Any]) -> Owed:
    (
        id_, rule_id, room_id, message_id, event, serial, webhook_id, payload, attempts, forgiven, created_at,
        deadline, room, epoch,
    ) = columns  # fmt: skip
    return Owed(
        id=id_, rule_id=rule_id, room_id=room_id, message_id=message_id, event=event, serial=serial,
        webhook_id=webhook_id, payload=payload, attempt=attempts, tries=attempts - forgiven, created_at=created_at,
        deadline=deadline, room=room, epoch=epoch,
    )  # fmt: skip


def _group(taken: Sequence[Owed]) -> list[Claim]:
    """Put deliveries into calls: for a batched rule together, unless one was tried before and may be what failed."""
    rules = IntegrationRule.objects.in_bulk({one.rule_id for one in taken})
    claims: list[Claim] = []
    gathered: dict[int, list[Owed]] = {}
    for one in taken:
        rule = rules.get(one.rule_id)
        if rule is None:  # removed a moment ago, and the delivery with it
            continue
        if not rule.batched or one.tries > 1:
            claims.append(Claim(rule=rule, owed=[one]))
        else:
            gathered.setdefault(rule.pk, []).append(one)
    for rule_id, of_rule in gathered.items():
        for start in range(0, len(of_rule), BATCH_MESSAGES):
            claims.append(Claim(rule=rules[rule_id], owed=of_rule[start : start + BATCH_MESSAGES]))
    return claims


def _rest(lanes: Sequence[int], now: datetime) -> None:
    if lanes:
        # A lane whose head was just buried has more to give; the next claim finds out.
        _execute(queries.RELEASE_LANES, lanes=list(lanes), due=[now] * len(lanes), narrow=[0] * len(lanes))


# --- Recording --------------------------------------------------------------------------------------------


def record_verdicts(
    reports: Sequence[Report], decisions: Mapping[int, Decision], *, owner: str, now: datetime
) -> list[Outcome]:
    """Store what calls before publish brought, together with the verdicts; `decisions` are by delivery.

    The verdicts come first: they lock the rooms. One that comes late, or from a worker whose lease ran out, is
    still a verdict: the log takes the first for each message.
    """
    with transaction.atomic():
        order = list(decisions)
        outcomes = decide.decide([decisions[delivery] for delivery in order], now=now) if order else []
        counted = {
            delivery: as_text(decisions[delivery].verdict)
            for delivery, outcome in zip(order, outcomes, strict=True)
            if outcome.kind not in (OutcomeKind.STALE, OutcomeKind.UNKNOWN)
        }
        _store([one for report in reports for one in report.conclusions], now, answers=counted)
        _add_attempts(reports, owner)
    return outcomes


def record_notices(reports: Sequence[Report], *, owner: str, now: datetime) -> int:
    """Store what calls after publish brought and give their lanes back. Return how many still had their lane."""
    held = {report.lane.id: report for report in reports if report.lane is not None}
    with transaction.atomic():
        lanes = {
            lane
            for (lane,) in _execute(
                queries.LOCK_LANES,
                lanes=list(held),
                fences=[report.lane.fence for report in held.values() if report.lane],
            )
        }
        mine = [report for lane, report in held.items() if lane in lanes]
        _store([one for report in mine for one in report.conclusions], now)
        if mine:
            _execute(
                queries.RELEASE_LANES,
                lanes=[report.lane.id for report in mine if report.lane],
                due=[report.lane_due_at for report in mine],
                narrow=[report.narrow for report in mine],
            )
        _add_attempts(reports, owner)
    return len(mine)


def release(claims: Sequence[Claim], *, owner: str, now: datetime) -> None:
    """Give back claims whose calls were not finished: others may take them at once."""
    owed = [one for claim in claims for one in claim.owed]
    lanes = [claim.lane for claim in claims if claim.lane is not None]
    with transaction.atomic():
        locked = [
            lane
            for (lane,) in _execute(
                queries.LOCK_LANES, lanes=[lane.id for lane in lanes], fences=[lane.fence for lane in lanes]
            )
        ]
        _execute(queries.UNCLAIM, ids=[one.id for one in owed], attempts=[one.attempt for one in owed], now=now)
        _rest(locked, now)
        if owed:
            wake()


@dataclass(frozen=True)
class _Ending:
    owed: Owed
    state: DeliveryState
    error: str


def _end(endings: Sequence[_Ending], now: datetime) -> None:
    if endings:
        _store_rows([(one.owed, one.state, now, now, None, one.error, "") for one in endings])


STATES = {
    Fate.DELIVERED: DeliveryState.DELIVERED,
    Fate.RETRY: DeliveryState.PENDING,
    Fate.DEAD: DeliveryState.DEAD,
}


def _store(conclusions: Sequence[Conclusion], now: datetime, *, answers: Mapping[int, str] | None = None) -> None:
    _store_rows(
        [
            (
                one.owed,
                STATES[one.fate],
                one.due_at,
                None if one.fate is Fate.RETRY else now,
                one.status,
                one.error,
                (answers or {}).get(one.owed.id, ""),
            )
            for one in conclusions
        ]
    )


def _store_rows(
    rows: Sequence[tuple[Owed, DeliveryState, datetime, datetime | None, int | None, str, str]],
) -> None:
    if not rows:
        return
    owed, states, due, finished, statuses, errors, answers = zip(*rows, strict=True)
    _execute(
        queries.STORE_RESULTS,
        ids=[one.id for one in owed],
        attempts=[one.attempt for one in owed],
        states=[state.value for state in states],
        due=list(due),
        finished=list(finished),
        statuses=list(statuses),
        errors=list(errors),
        answers=list(answers),
    )


def _add_attempts(reports: Sequence[Report], owner: str) -> None:
    rows = [
        (one.owed.id, one.owed.attempt, report.started_at, report.duration_ms, one.status, one.error, report.response)
        for report in reports
        for one in report.conclusions
    ]
    if rows:
        ids, numbers, started, durations, statuses, errors, responses = map(list, zip(*rows, strict=True))
        _execute(
            queries.ADD_ATTEMPTS,
            ids=ids,
            numbers=numbers,
            started=started,
            durations=durations,
            statuses=statuses,
            errors=errors,
            responses=responses,
            owner=owner,
        )


# --- By hand, and by callback -----------------------------------------------------------------------------


def resend(deliveries: Sequence[int], *, now: datetime) -> int:
    """Owe finished deliveries after publish once more, under their old webhook ids. Return how many they were.

    One before publish is left alone: its message was decided.
    """
    with transaction.atomic():
        rows = _execute(queries.RESEND, ids=list(deliveries), now=now)
        if rows:
            _wake_lanes({(rule_id, room_id) for _, rule_id, room_id in rows}, now)
            wake()
    return len(rows)


def note_answer(*, rule_id: int, message_id: int, text: str) -> None:
    """Store the verdict that counted, where it came by callback."""
    Delivery.objects.filter(message_id=message_id, rule_id=rule_id, deadline__isnull=False).update(answer=text)


def read_answer(*, rule_id: int, message_id: int) -> str | None:
    """Return the verdict of this rule that counted, "" if none did, None if the rule was never asked."""
    mine = Delivery.objects.filter(message_id=message_id, rule_id=rule_id, deadline__isnull=False)
    return mine.values_list("answer", flat=True).first()


def forget(rule_id: int, *, limit: int) -> int:
    """Delete some deliveries of a rule that is being removed. Return how many; 0: none are left."""
    with transaction.atomic():
        ids = list(Delivery.objects.filter(rule_id=rule_id).order_by("-id").values_list("id", flat=True)[:limit])
        if ids:
            Attempt.objects.filter(delivery_id__in=ids).delete()
            Delivery.objects.filter(id__in=ids).delete()
        else:
            Lane.objects.filter(rule_id=rule_id).delete()
    return len(ids)


def _execute(sql: str, **values: Any) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchall() if cursor.description else []
