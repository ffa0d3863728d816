"""Owing: deliveries are written in the transaction of their event."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction

from integrations.models import EventKind
from integrations.outbox import queries
from rooms.database.statements import Statement, together

CHANNEL = "deliveries"  # of LISTEN and NOTIFY
NOTIFY: Statement = ("SELECT pg_notify(%b, '')", [CHANNEL])


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
class Reach:
    """Whose lanes a transaction may wake, in all its calls of `owe` together."""

    rules: Collection[int]
    rooms: Collection[int]


def owe(debts: Sequence[Debt], *, now: datetime, reach: Reach | None = None) -> None:
    """Write a delivery for each debt, and wake the lanes and workers. Call under the locks of the rooms.

    A transaction that calls it more than once gives its `reach` each time: the first call then locks all lanes in
    their order, or it would wait crosswise with a worker that records several.
    """
    if not debts:
        return
    lanes = {_lane(debt) for debt in debts if debt.in_lane}
    ahead = [(queries.LOCK_REACH, [list(reach.rules), list(reach.rooms)])] if reach and lanes else []
    with transaction.atomic():
        together([*ahead, _addition(debts, now), *waking(lanes, now), NOTIFY])


def wake() -> None:
    """Tell the workers, once the transaction commits, that something may be due."""
    with transaction.atomic():
        together([NOTIFY])


def waking(lanes: set[tuple[int, int]], now: datetime) -> list[Statement]:
    """Return the statement that wakes lanes (rule, room) with new deliveries, if there are any."""
    if not lanes:
        return []
    rules, rooms = zip(*sorted(lanes), strict=True)
    return [(queries.WAKE_LANES, [now, list(rules), list(rooms)])]


def _lane(debt: Debt) -> tuple[int, int]:
    return debt.rule_id, debt.room_id


def _addition(debts: Sequence[Debt], now: datetime) -> Statement:
    return (
        queries.ADD_DELIVERIES,
        [
            now,
            [debt.rule_id for debt in debts],
            [debt.room_id for debt in debts],
            [debt.message_id for debt in debts],
            [debt.event.value for debt in debts],
            [debt.serial for debt in debts],
            [debt.in_lane for debt in debts],
            [f"msg_{secrets.token_hex(12)}" for _ in debts],
            [debt.payload for debt in debts],
            [now + debt.wait for debt in debts],
            [debt.deadline for debt in debts],
        ],
    )
