"""Adds deliveries to the outbox, in the transaction of the event that they are about."""

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
    """A delivery to add: an event, and the rule whose target must be called for it.

    With a `deadline` the call asks for a verdict. `in_lane`: called in order, after the rule's earlier deliveries of
    this room; otherwise side by side with them. `wait`: how long the first call is held back.
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
    """The rules and rooms whose lanes one transaction may wake, in all its calls of `add_deliveries` together."""

    rules: Collection[int]
    rooms: Collection[int]


def add_deliveries(deliveries: Sequence[NewDelivery], *, now: datetime, reach: Reach | None = None) -> None:
    """Insert deliveries, and wake their lanes and the workers. Call under the locks of the rooms.

    A transaction that calls it more than once passes its `reach` each time. The first call then locks all those lanes
    in order; otherwise the transaction and a worker that records several lanes could wait for each other.
    """
    if not deliveries:
        return
    lanes = {_lane(delivery) for delivery in deliveries if delivery.in_lane}
    ahead = [(queries.LOCK_REACH, [list(reach.rules), list(reach.rooms)])] if reach and lanes else []
    with transaction.atomic():
        together([*ahead, _addition(deliveries, now), *waking(lanes, now), NOTIFY])


def wake() -> None:
    """Notify the workers, once the transaction commits, that a delivery may be due."""
    with transaction.atomic():
        together([NOTIFY])


def waking(lanes: set[tuple[int, int]], now: datetime) -> list[Statement]:
    """Return the statement that makes lanes (rule, room) with new deliveries due; none without lanes."""
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
