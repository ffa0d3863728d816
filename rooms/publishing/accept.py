"""Accepts drafts in one transaction: stores them, reviews them, and publishes those that are ready."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.db import transaction

from rooms.database.small_tables import versions_read
from rooms.errors import ChatError, Code
from rooms.log import announce, lifecycle, signals
from rooms.log.author_order import find_ready
from rooms.log.content import Draft
from rooms.log.entries import Entry
from rooms.log.outcomes import Outcome, OutcomeKind, outcome_of
from rooms.log.rows import LockedRoom, Row, entries_of
from rooms.models import Status
from rooms.publishing import accept_queries
from rooms.publishing.accept_queries import Key, LockedRooms
from rooms.review import endings, pipeline, verdict_history
from rooms.review.pipeline import Answers
from rooms.review.verdict_history import StepVerdict

ACCEPT_BATCH_MESSAGES = 500  # in one transaction, since others wait for its locks


def accept(drafts: Sequence[Draft], *, now: datetime, lock_seconds: float | None = None) -> list[Outcome]:
    """Store drafts, review them, publish those that are ready, and return the outcome of each, in order.

    One transaction, all or nothing. A message id that the room already has gets the outcome of its first publish.
    Entries and outcomes are announced after the commit. `lock_seconds` is the longest wait for a room's lock.
    """
    with transaction.atomic():
        by_key: dict[Key, Draft] = {}
        for draft in drafts:
            by_key.setdefault((draft.room_id, draft.message_id), draft)
        authors = {(draft.room_id, draft.author) for draft in drafts}
        locked = accept_queries.read_locked(by_key, authors, lock_seconds)
        fresh = [draft for key, draft in by_key.items() if key not in locked.known and draft.room_id in locked.rooms]
        with versions_read(locked.versions):
            rows = [lifecycle.start(draft, now) for draft in fresh]
            if rows:
                answers = pipeline.review(rows, locked.rooms, now)
                _store(rows, answers, locked, now)
                pipeline.defer(answers.deferred)
                announce.after_commit(entries=_signal(rows, answers, locked))
    known = locked.known | {(row.room_id, row.message_id): row for row in rows}
    return [_outcome_of_draft(draft, known, locked.rooms) for draft in drafts]


def _store(rows: Sequence[Row], answers: Answers, locked: LockedRooms, now: datetime) -> None:
    """Publish the ready rows, and insert all rows with their verdicts. Writes."""
    moved: dict[int, LockedRoom] = {}
    for row in find_ready(rows, blocked=locked.blocked):
        room = moved[row.room_id] = locked.rooms[row.room_id]
        lifecycle.publish(row, room, now)
    verdicts = [StepVerdict(*verdict) for verdict in answers.verdicts]
    history = [verdict_history.adding_to_new(verdicts, now)] if verdicts else []
    accept_queries.insert(rows, moved.values(), history)


def _signal(rows: Sequence[Row], answers: Answers, locked: LockedRooms) -> list[Entry]:
    """Signal the accepted and published messages and the ended reviews. Return the new entries. Writes."""
    rooms = locked.rooms
    if signals.messages_accepted.has_listeners():
        accepted = [(row.id, draft) for row, draft in answers.drafts]
        signals.messages_accepted.send(sender=None, accepted=accepted, rooms=rooms)
    entries = entries_of([row for row in rows if row.status == Status.PUBLISHED], rooms)
    if entries:
        signals.messages_published.send(sender=None, entries=entries, rooms=rooms)
    if answers.verdicts and signals.reviews_ended.has_listeners():
        last = {row.id: (row, rooms[row.room_id], by, verdict) for row, by, verdict in answers.verdicts}
        endings.send([end for verdict in last.values() if (end := endings.end_of(*verdict)) is not None], rooms)
    return entries


def _outcome_of_draft(draft: Draft, known: dict[Key, Row], rooms: dict[int, LockedRoom]) -> Outcome:
    if draft.room_id not in rooms:
        return Outcome(
            kind=OutcomeKind.REJECTED, message=0, error=ChatError(Code.NOT_FOUND, "The room no longer exists.")
        )
    return outcome_of(known[draft.room_id, draft.message_id], rooms[draft.room_id].epoch)
