"""Occupancy events for rules: a worker's loop compares the counts of rooms with those that rules were told last.

Gateways write their counts once a second (rooms.occupancy.store). The counts that rules were told are rows of RoomTold,
which change in the transaction that adds the deliveries: no event is lost or sent twice, whichever worker runs the loop
and whatever crashes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from integrations import outbox
from integrations.database.advisory_locks import AdvisoryLock, lock
from integrations.events.signal_receivers import delivery_for
from integrations.matching import filters, rule_book
from integrations.matching.rule_book import RuleBook
from integrations.models import EventKind, RoomTold
from integrations.wire import events
from rooms import faults
from rooms.database import threads
from rooms.database.statements import fetch
from rooms.faults import POSTGRES_AWAY
from rooms.log import directory, room_locks
from rooms.occupancy import store
from rooms.occupancy.counts import NOBODY, Metrics

logger = logging.getLogger(__name__)

ROOM_CLOSED_SECONDS = 10.0  # an empty room counts as closed after so long: a member who reconnects does not reopen it
OCCUPANCY_EVENTS_PER_SECOND = 500  # changed rooms with events in one second, all workers together; the others wait
OCCUPANCY_EVENT_SECONDS = 1.0  # between two occupancy events of one room

TICK_SECONDS = 1.0
ROOMS_AT_ONCE = 50  # locked in one transaction
REST_SHARE = 5.0  # the pause after a comparison is at least so many times its duration
TICK_TIMEOUT_SECONDS = 20.0
MARGIN = timedelta(days=2)  # retries, and the turns of the cleanup
KINDS = (EventKind.OCCUPANCY, EventKind.OPENED, EventKind.CLOSED)

_COLUMNS = Metrics._fields
_TOLD = ", ".join(f"told.{name}" for name in _COLUMNS)
_HERE = ", ".join(f"here.{name}" for name in _COLUMNS)

# The row of room 0 says when the last comparison was made. Without it the table holds nothing that rules were told.
_BEGIN = """
SELECT pg_try_advisory_xact_lock(%(lock)s), mark.told_at IS NOT NULL,
    coalesce(mark.told_at > clock_timestamp() - make_interval(secs => %(tick)s), false)
FROM (SELECT 1) AS always LEFT JOIN integrations_roomtold AS mark ON mark.room_id = 0
"""
_MARK = """
INSERT INTO integrations_roomtold (room_id, {columns}, told_at) VALUES (0, {zeros}, clock_timestamp())
ON CONFLICT (room_id) DO UPDATE SET told_at = excluded.told_at
""".format(columns=", ".join(_COLUMNS), zeros=", ".join("0" for _ in _COLUMNS))

_BASELINE = f"""
INSERT INTO integrations_roomtold (room_id, {", ".join(_COLUMNS)}, told_at)
SELECT here.*, clock_timestamp() FROM ({{sums}}) AS here
"""
_COMPARE = f"""
SELECT coalesce(here.room_id, told.room_id), room.name, here.room_id IS NOT NULL, told.room_id IS NOT NULL,
    told.empty_since IS NOT NULL, told.told_at, {_HERE}, {_TOLD}
FROM ({{sums}}) AS here (room_id, {", ".join(_COLUMNS)})
FULL JOIN (SELECT * FROM integrations_roomtold WHERE room_id > 0) AS told ON told.room_id = here.room_id
LEFT JOIN rooms_room AS room ON room.id = coalesce(here.room_id, told.room_id)
WHERE told.room_id IS NULL
    OR here.room_id IS NULL AND told.empty_since IS NULL
    OR here.room_id IS NULL AND told.empty_since < clock_timestamp() - make_interval(secs => %(closed)s)
    OR here.room_id IS NOT NULL AND told.empty_since IS NOT NULL
    OR ({_HERE}) IS DISTINCT FROM ({_TOLD}) AND here.room_id IS NOT NULL
        AND told.told_at < clock_timestamp() - make_interval(secs => %(quiet)s)
ORDER BY told.told_at NULLS FIRST
LIMIT %(limit)s
"""
# Each statement stores a change unless another worker has changed that room's row since, and returns the stored rooms.
_NEW = f"""
FROM unnest(%(rooms)s::bigint[], %(seen)s::timestamptz[], {", ".join(f"%({name})s::int[]" for name in _COLUMNS)})
    AS new (room_id, seen, {", ".join(_COLUMNS)})
"""
_OPEN = f"""
INSERT INTO integrations_roomtold (room_id, {", ".join(_COLUMNS)}, told_at)
SELECT new.room_id, {", ".join(f"new.{name}" for name in _COLUMNS)}, clock_timestamp() {_NEW}
ON CONFLICT (room_id) DO NOTHING RETURNING room_id
"""
_CHANGE = f"""
UPDATE integrations_roomtold AS told SET told_at = clock_timestamp(), empty_since = NULL,
    {", ".join(f"{name} = new.{name}" for name in _COLUMNS)}
{_NEW} WHERE told.room_id = new.room_id AND told.told_at = new.seen RETURNING told.room_id
"""
_EMPTY = f"""
UPDATE integrations_roomtold AS told SET empty_since = clock_timestamp()
{_NEW} WHERE told.room_id = new.room_id AND told.told_at = new.seen AND told.empty_since IS NULL RETURNING told.room_id
"""
_CLOSE = f"""
DELETE FROM integrations_roomtold AS told USING (SELECT * {_NEW}) AS new
WHERE told.room_id = new.room_id AND told.told_at = new.seen RETURNING told.room_id
"""


@dataclass(frozen=True, kw_only=True)
class RoomChange:
    """A room whose counts differ from those that rules were told. `name` is None if the room is gone."""

    room_id: int
    name: str | None
    here: Metrics | None  # None: the room is empty
    told: Metrics | None  # None: rules were told that the room is closed
    told_at: datetime | None
    is_waiting: bool  # it was found empty before, and is not closed until ROOM_CLOSED_SECONDS have passed

    @property
    def statement(self) -> str:
        """The SQL that stores the change."""
        if self.here is None:
            return _CLOSE if self.is_waiting else _EMPTY
        return _OPEN if self.told is None else _CHANGE

    @property
    def events(self) -> list[EventKind]:
        """The events of the change, for rules."""
        if self.here is None:
            return [EventKind.OCCUPANCY, EventKind.CLOSED] if self.is_waiting else []
        if self.told is None:
            return [EventKind.OPENED, EventKind.OCCUPANCY]
        return [EventKind.OCCUPANCY] if self.here != self.told else []


class OccupancyEvents:
    """Runs the comparison in one worker. `run` until cancelled."""

    def __init__(self) -> None:
        self.told = 0  # rooms for which this worker has added events

    async def run(self) -> None:
        """Compare once a second, or less often if a comparison takes long."""
        while True:
            began = time.monotonic()
            try:
                # After a timeout the thread ends by itself: a worker's statements have a time limit.
                # Not wait_for: in Python 3.11 that loses a cancellation which comes as the call ends.
                async with asyncio.timeout(TICK_TIMEOUT_SECONDS):
                    self.told += await threads.run(notify_rules)
            except (*POSTGRES_AWAY, TimeoutError) as error:
                logger.warning("Rules cannot be told how many are in rooms (%s).", type(error).__name__)
            except Exception:
                faults.record("occupancy events")
            await asyncio.sleep(max(TICK_SECONDS, REST_SHARE * (time.monotonic() - began)))


def notify_rules() -> int:
    """Add the events of all changed rooms to the outbox. Return the number of rooms; 0 if another worker compares.

    While no rule receives events of rooms nothing is compared, and the stored counts are deleted.
    """
    book = rule_book.read()
    if not any(book.receivers_of(kind) for kind in KINDS):
        _forget()
        return 0
    differences = _look()
    parts = [differences[start : start + ROOMS_AT_ONCE] for start in range(0, len(differences), ROOMS_AT_ONCE)]
    return sum(_notify_part(part, book) for part in parts)


def _look() -> list[RoomChange]:
    """Return the changed rooms; none if another worker compared a moment ago, or at the first comparison."""
    with transaction.atomic():
        ((is_ours, is_known, is_recent),) = fetch(
            _BEGIN, lock=AdvisoryLock.COMPARING_ROOMS.value, tick=TICK_SECONDS / 2
        )
        if not is_ours or is_recent:
            return []
        fetch(_MARK)
        if is_known:
            return _compare()
        # The first comparison only stores the counts: members who were there before are no event.
        _fetch_with_sums(_BASELINE)
        return []


def _notify_part(differences: Sequence[RoomChange], book: RuleBook) -> int:
    """Store the new counts of some rooms and add their events, in one transaction. Return the number of rooms.

    Rooms that stay locked are left for the next comparison.
    """
    owed = {one.room_id: _new_deliveries(one, book) for one in differences}
    with transaction.atomic():
        lock(AdvisoryLock.COMPARING_ROOMS)
        # Rooms before lanes, the order in which publishing locks them.
        free = room_locks.lock_unless_stuck(room_id for room_id, deliveries in owed.items() if deliveries)
        changed = _store([one for one in differences if one.room_id in free or not owed[one.room_id]])
        now = timezone.now()
        outbox.add_deliveries([delivery for room_id in changed for delivery in owed[room_id]], now=now)
        # A room in which nobody wrote goes with its members, but its deliveries name it for as long as they are kept.
        kept = max(settings.DELIVERY_KEEP_SECONDS, settings.DELIVERY_DEAD_KEEP_SECONDS)
        told = [room_id for room_id in changed if owed[room_id]]
        directory.keep_until(told, now + timedelta(seconds=kept) + MARGIN)
    return len(changed)


def on_rooms_unused(sender: Any, *, rooms: set[int], **kwargs: Any) -> None:
    """Keep rooms that are still open for rules, or whose lanes hold deliveries."""
    rooms -= set(RoomTold.objects.filter(room_id__in=rooms).values_list("room_id", flat=True))
    rooms -= outbox.delete_idle_lanes(rooms)


def open_rooms() -> tuple[int, float]:
    """Return how many rooms rules were told are open, and the seconds since the last comparison; 0: never."""
    ((rooms, seconds),) = fetch(
        "SELECT count(*) FILTER (WHERE room_id > 0), coalesce(max(extract(epoch FROM clock_timestamp() - told_at)) "
        "FILTER (WHERE room_id = 0), 0) FROM integrations_roomtold"
    )
    return rooms, float(seconds)


def _forget() -> None:
    if RoomTold.objects.exists():
        RoomTold.objects.all().delete()


def _compare() -> list[RoomChange]:
    rows = _fetch_with_sums(
        _COMPARE,
        closed=ROOM_CLOSED_SECONDS,
        quiet=OCCUPANCY_EVENT_SECONDS,
        limit=OCCUPANCY_EVENTS_PER_SECOND,
    )
    size = len(_COLUMNS)
    return [
        RoomChange(
            room_id=room_id,
            name=name,
            here=Metrics(*counts[:size]) if is_here else None,
            told=Metrics(*counts[size:]) if is_told else None,
            told_at=told_at,
            is_waiting=is_waiting,
        )
        for room_id, name, is_here, is_told, is_waiting, told_at, *counts in rows
    ]


def _new_deliveries(one: RoomChange, book: RuleBook) -> list[outbox.NewDelivery]:
    if one.name is None or not one.events:
        return []
    payload = events.status_payload(one.here or NOBODY)
    return [
        delivery_for(rule, kind, room_id=one.room_id, message_id=None, payload=payload)
        for kind in one.events
        for rule in book.receivers_of(kind)
        if filters.lets_pass(rule, room=one.name, client_id=None, key=one.name)
    ]


def _store(differences: Sequence[RoomChange]) -> list[int]:
    """Store the new counts, and return the rooms that no other worker had changed meanwhile."""
    changed: list[int] = []
    for statement in (_OPEN, _CHANGE, _EMPTY, _CLOSE):
        stored = [one for one in differences if one.statement is statement]
        if stored:
            columns = {name: [getattr(one.here or NOBODY, name) for one in stored] for name in _COLUMNS}
            rooms, seen = [one.room_id for one in stored], [one.told_at for one in stored]
            changed += [room_id for (room_id,) in fetch(statement, rooms=rooms, seen=seen, **columns)]
    return sorted(changed)


def _fetch_with_sums(sql: str, **values: Any) -> list[Any]:
    sums, alive = store.sums_sql()
    return fetch(sql.format(sums=sums.replace("%s", "%(alive)s")), alive=alive, **values)
