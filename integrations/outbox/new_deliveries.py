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
class NewDelivery:
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


def add_deliveries(deliveries: Sequence[NewDelivery], *, now: datetime, reach: Reach | None = None) -> None:
    """Write a delivery for each debt, and wake the lanes and workers. Call under the locks of the rooms.

    A transaction that calls it more than once gives its `reach` each time: the first call then locks all lanes in
    their order, or it would wait crosswise with a worker that records several.
    """
    if not deliveries:
        return
    lanes = {_lane(delivery) for delivery in deliveries if delivery.in_lane}
    ahead = [(queries.LOCK_REACH, [list(reach.rules), list(reach.rooms)])] if reach and lanes else []
    with transaction.atomic():
        together([*ahead, _addition(deliveries, now), *waking(lanes, now), NOTIFY])


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


def _lane(delivery: NewDelivery) -> tuple[int, int]:
    return delivery.rule_id, delivery.room_id


def _addition(deliveries: Sequence[NewDelivery], now: datetime) -> Statement:
    return (
        queries.ADD_DELIVERIES,
        [
            now,
            [delivery.rule_id for delivery in deliveries],
            [delivery.room_id for delivery in deliveries],
            [delivery.message_id for delivery in deliveries],
            [delivery.event.value for delivery in deliveries],
            [delivery.serial for delivery in deliveries],
            [delivery.in_lane for delivery in deliveries],
            [f"msg_{secrets.token_hex(12)}" for _ in deliveries],
            [delivery.payload for delivery in deliveries],
            [now + delivery.wait for delivery in deliveries],
            [delivery.deadline for delivery in deliveries],
        ],
    )
