"""Changes deliveries outside of claims and records: resends, retries after an outage, the leases of dead workers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection, transaction

from integrations.models import Attempt, Delivery, DeliveryState, Lane
from integrations.outbox import recovery_queries
from integrations.outbox.claims import NOT_NEEDED
from integrations.outbox.new_deliveries import NOTIFY, waking
from rooms.database import large_tables
from rooms.database.statements import together

REPLAY_STEP = 1_000
REPLAY_MAX = 100_000
RETRY_NOW_STEP = 1_000
OVERDUE_STEP = 1_000


@dataclass(frozen=True, kw_only=True)
class Replay:
    """Selects finished deliveries of a rule to resend. `since` and `until` are times of their events."""

    rule_id: int
    states: Sequence[str] = (DeliveryState.DEAD.value,)
    since: datetime | None = None
    until: datetime | None = None
    event: str = ""


def resend(deliveries: Sequence[int], *, now: datetime) -> int:
    """Make finished deliveries due again, under their old webhook ids. Return how many were.

    Deliveries that asked for a verdict are left alone: their messages were decided.
    """
    with transaction.atomic():
        rows = together([(recovery_queries.RESEND, [now, sorted(deliveries)])])[0]
        if rows:
            together([*waking({(rule, room) for rule, room, in_lane in rows if in_lane}, now), NOTIFY])
    return len(rows)


def replay(query: Replay, *, now: datetime, most: int = REPLAY_MAX) -> int:
    """Resend all deliveries of a query, oldest first, in bounded steps. Return how many, at most `most`.

    Lanes deliver them in the order of their events again, before the deliveries added since.
    """
    # Keys grow with time, so no delivery from before `since` is read.
    first = large_tables.first_id_at(Delivery, "created_at", query.since - large_tables.SKEW) if query.since else None
    resent, place = 0, (first or 1) - 1
    while resent < most:
        found = _find(query, place, min(REPLAY_STEP, most - resent))
        if not found:
            break
        resent += resend(found, now=now)
        place = found[-1]
    return resent


def _find(query: Replay, after: int, limit: int) -> list[int]:
    states = list(query.states)
    values = [query.rule_id, states, query.since, query.since, query.until, query.until, query.event, query.event]
    with transaction.atomic():
        is_dead = states == [DeliveryState.DEAD]
        sql = recovery_queries.FIND_DEAD_TO_REPLAY if is_dead else recovery_queries.FIND_TO_REPLAY
        return [id_ for (id_,) in together([(sql, [*values, after, limit])])[0]]


def retry_now(rule_id: int, *, now: datetime) -> int:
    """Make a rule's deliveries that wait for a retry due now, a bounded step of them. Return how many were."""
    limits: list[Any] = [now, rule_id, now, RETRY_NOW_STEP]
    with transaction.atomic(), connection.cursor() as cursor:
        count = 0
        for sql in (recovery_queries.RETRY_NOW_LANES, recovery_queries.RETRY_NOW_SINGLES):
            cursor.execute(sql, limits)
            count += cursor.rowcount
        if count:
            together([NOTIFY])
    return count


def reclaim(owners: Sequence[str], *, now: datetime) -> None:
    """Make due at once what dead workers had under lease. The calls are repeated, under the same webhook ids."""
    values = [now, now, list(owners)]
    with transaction.atomic():
        together([(recovery_queries.RECLAIM_LANES, values), (recovery_queries.RECLAIM_SINGLES, values), NOTIFY])


def cancel_overdue(*, now: datetime) -> int:
    """Cancel deliveries whose messages the deadline has decided. Return how many, at most OVERDUE_STEP."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(recovery_queries.CANCEL_OVERDUE, [now, NOT_NEEDED, now, OVERDUE_STEP, now])
        return int(cursor.rowcount)


def delete_idle_lanes(rooms: Collection[int]) -> set[int]:
    """Delete the lanes of rooms that are about to be removed, and return the rooms that have deliveries in theirs.

    Call it under the locks of the rooms: nobody adds a delivery meanwhile.
    """
    Lane.objects.filter(room_id__in=rooms, due_at__isnull=True).delete()
    return set(Lane.objects.filter(room_id__in=rooms).values_list("room_id", flat=True))


def delete_deliveries(rule_id: int, *, limit: int) -> int:
    """Delete up to `limit` deliveries of a rule that is being removed. Return how many; 0: none are left."""
    with transaction.atomic():
        ids = list(Delivery.objects.filter(rule_id=rule_id).order_by("-id").values_list("id", flat=True)[:limit])
        if ids:
            Attempt.objects.filter(delivery_id__in=ids).delete()
            Delivery.objects.filter(id__in=ids).delete()
        else:
            Lane.objects.filter(rule_id=rule_id).delete()
    return len(ids)
