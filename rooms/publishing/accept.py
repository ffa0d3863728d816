"""Accepting: from a publish to a durable message, in one transaction for all that gathered."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.db import transaction

from rooms.database.small_tables import versions_read
from rooms.errors import ChatError, Code
from rooms.log import announce, lifecycle, signals
from rooms.log.content import Draft
from rooms.log.entries import Entry
from rooms.log.outcomes import Outcome, OutcomeKind, outcome_of
from rooms.log.queries import Key
from rooms.log.rows import LockedRoom, Row
from rooms.models import Status
from rooms.publishing import accept_queries
from rooms.publishing.accept_queries import Found
from rooms.review import endings, pipeline
from rooms.review.verdict_history import Word, recording_new


def accept(drafts: Sequence[Draft], *, now: datetime) -> list[Outcome]:
    """Store drafts, review them, publish those that may be seen, and return what became of each, in order.

    All or nothing: one transaction. A message id that the room already has gets the first publish's outcome.
    Entries and outcomes are announced after the commit.
    """
    with transaction.atomic():
        by_key: dict[Key, Draft] = {}
        for draft in drafts:
            by_key.setdefault((draft.room_id, draft.message_id), draft)
        found = accept_queries.look(by_key, {(draft.room_id, draft.author) for draft in drafts})
        fresh = [draft for key, draft in by_key.items() if key not in found.known and draft.room_id in found.rooms]
        with versions_read(found.versions):
            rows = [_row_of(draft, now) for draft in fresh]
            if rows:
                asked = pipeline.review(rows, found.rooms, now)
                _store(rows, asked, found, now)
                pipeline.defer(asked.deferred)
                announce.after_commit(entries=_tell(rows, asked, found))
    known = found.known | {(row.room_id, row.message_id): row for row in rows}
    return [_outcome_of_draft(draft, known, found.rooms) for draft in drafts]


def _store(rows: Sequence[Row], asked: pipeline.Asked, found: Found, now: datetime) -> None:
    """Write: one row a draft, each with its status, and with its serial where it may be seen at once."""
    busy, moved = set(found.busy), {}
    for row in rows:
        key = (row.room_id, row.author)
        if row.status == Status.APPROVED and key not in busy:
            room = moved[row.room_id] = found.rooms[row.room_id]
            lifecycle.publish(row, room, now)
        elif row.status in (Status.ACCEPTED, Status.APPROVED):
            busy.add(key)
    accept_queries.store(
        rows, moved.values(), [recording_new([Word(*said) for said in asked.said], now)] if asked.said else []
    )


def _tell(rows: Sequence[Row], asked: pipeline.Asked, found: Found) -> list[Entry]:
    """Write: tell the apps (their outbox) what was accepted, published and reviewed. Return the log's new entries."""
    if signals.messages_accepted.has_listeners():
        accepted = [(row.id, submission) for row, submission in asked.submissions]
        signals.messages_accepted.send(sender=None, accepted=accepted, rooms=found.rooms)
    published = [row for row in rows if row.status == Status.PUBLISHED]
    entries = lifecycle.tell(lifecycle.entries_of(published, found.rooms), found.rooms)
    if asked.said and signals.reviews_ended.has_listeners():
        last = {row.id: (row, found.rooms[row.room_id], by, verdict) for row, by, verdict in asked.said}
        ended = [one for said in last.values() if (one := endings.ending_of(*said)) is not None]
        endings.tell(ended, found.rooms)
    return entries


def _row_of(draft: Draft, now: datetime) -> Row:
    return Row(
        room_id=draft.room_id,
        message_id=draft.message_id,
        author=draft.author,
        client_id=draft.client_id,
        connection_id=draft.connection_id,
        content=draft.content,
        status=Status.APPROVED,
        accepted_at=now,
        origin=draft.origin,
    )


def _outcome_of_draft(draft: Draft, known: dict[Key, Row], rooms: dict[int, LockedRoom]) -> Outcome:
    if draft.room_id not in rooms:
        return Outcome(
            kind=OutcomeKind.REJECTED, message=0, error=ChatError(Code.NOT_FOUND, "The room no longer exists.")
        )
    return outcome_of(known[draft.room_id, draft.message_id], rooms[draft.room_id].epoch)
