"""Applies the decisions of one transaction, on time or late.

Publishes the messages that became ready, stores the rows, signals the apps, and notifies the gateways after the commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rooms.log import announce, author_queries, lifecycle, signals
from rooms.log.author_order import author_of, find_ready, find_ready_among
from rooms.log.entries import Entry
from rooms.log.outcomes import outcome_of
from rooms.log.rows import Row, entries_of
from rooms.models import Status
from rooms.review import decision_queries, endings, pipeline, verdict_history
from rooms.review.contract import Verdict
from rooms.review.decision_queries import Undecided
from rooms.review.endings import Ending, ReviewEnd
from rooms.review.verdict_history import StepVerdict


class Decisions:
    """The decisions of one transaction, under the locks of their rooms. `conclude` stores all their effects."""

    def __init__(self, undecided: Undecided, now: datetime) -> None:
        self.rows = undecided.rows
        self.rooms = undecided.rooms
        self.entries: list[Entry] = []  # new entries of the log, to be announced
        self._undecided = undecided
        self._now = now
        self._changed: dict[int, Row] = {}
        self._verdicts: list[StepVerdict] = []
        self._last: dict[int, tuple[str, Verdict]] = {}
        self._endings: dict[int, Ending] = {}
        self._ends: list[ReviewEnd] = []
        self._deferred: list[pipeline.Deferred] = []

    def record(self, row: Row, by: str, verdict: Verdict) -> None:
        """Record a verdict on a row, by a step or a moderator."""
        self._verdicts.append(StepVerdict(row, by, verdict))
        self._last[row.id] = by, verdict

    def apply(self, row: Row, verdict: Verdict) -> None:
        """Apply a verdict to a row that is not published."""
        pipeline.apply(row, verdict)
        self._changed[row.id] = row

    def publish(self, row: Row, ending: Ending = Ending.PUBLISHED) -> None:
        """Publish a row at once, out of its author's order."""
        lifecycle.publish(row, self.rooms[row.room_id], self._now)
        self._changed[row.id] = row
        self._endings[row.id] = ending

    def end(self, row: Row, ending: Ending, by: str, verdict: Verdict) -> None:
        """Note the end of the review of a row that was published before."""
        self._ends.append(endings.make(row, self.rooms[row.room_id], by, verdict, ending))

    def resume(self, rows: Sequence[Row]) -> None:
        """Ask the reviewers that follow the steps which let these rows pass."""
        answers = pipeline.resume(rows, self.rooms, self._now) if rows else pipeline.NO_ANSWERS
        self._deferred += answers.deferred
        for row, by, verdict in answers.verdicts:
            self.record(row, by, verdict)

    def conclude(self) -> None:
        """Publish ready messages, store all changes, signal the apps, and notify gateways after the commit. Writes."""
        self._publish_ready()
        rows = list(self._changed.values())
        decision_queries.store(rows, self._undecided, self._verdicts, self._now)
        pipeline.defer(self._deferred)
        published = entries_of([row for row in rows if row.status == Status.PUBLISHED], self.rooms)
        if published:
            signals.messages_published.send(sender=None, entries=published, rooms=self.rooms)
        if signals.reviews_ended.has_listeners():
            endings.send(self._ends + self._ends_of(rows), self.rooms)
        outcomes = [
            (row.origin, outcome_of(row, self.rooms[row.room_id].epoch))
            for row in rows
            if row.origin and row.status not in (Status.ACCEPTED, Status.APPROVED)
        ]
        announce.after_commit(entries=self.entries + published, outcomes=outcomes)

    def _publish_ready(self) -> None:
        """Publish the ready messages of the authors whose messages changed."""
        authors = {author_of(row) for row in self._changed.values()}
        others = {author: other for author, other in self._undecided.oldest_others.items() if author in authors}
        ready, unclear = find_ready_among((row for row in self.rows.values() if author_of(row) in authors), others)
        if unclear:
            decided = [row.id for row in self._changed.values() if row.status != Status.ACCEPTED]
            lines = author_queries.read_lines(unclear, decided)
            ready += find_ready([self.rows.get(row.id, row) for row in lines])
        for row in sorted(ready, key=lambda row: row.id):
            self.publish(row)

    def _ends_of(self, rows: Sequence[Row]) -> list[ReviewEnd]:
        # A message that waited for its author's order was decided in an earlier transaction.
        earlier = verdict_history.read_last([row.id for row in rows if row.id not in self._last])
        ends = []
        for row in rows:
            last = self._last.get(row.id) or earlier.get(row.id)
            if last is not None:
                ends.append(endings.end_of(row, self.rooms[row.room_id], *last, self._endings.get(row.id)))
        return [end for end in ends if end is not None]
