"""What decisions have in common, on time or late: what they set free, what is written, and who is told."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rooms.log import announce, lifecycle, queries, signals
from rooms.log.entries import Entry
from rooms.log.outcomes import outcome_of
from rooms.log.rows import Row
from rooms.models import Status
from rooms.review import decide_queries, endings, pipeline, waiting_queries
from rooms.review.contract import Verdict
from rooms.review.decide_queries import Found
from rooms.review.endings import Ending, Reviewed
from rooms.review.verdict_history import Word


class Settling:
    """The decisions of one transaction, under the locks of their rooms. `conclude` writes what they come to."""

    def __init__(self, found: Found, now: datetime) -> None:
        self.rows = found.rows
        self.rooms = found.rooms
        self.entries: list[Entry] = []  # new places in the log, to be announced
        self._found = found
        self._now = now
        self._changed: dict[int, Row] = {}
        self._words: list[Word] = []
        self._last: dict[int, tuple[str, Verdict]] = {}
        self._kinds: dict[int, Ending] = {}
        self._ended: list[Reviewed] = []
        self._deferred: list[pipeline.Deferred] = []

    def note(self, row: Row, by: str, verdict: Verdict) -> None:
        """Take down who said what of a row."""
        self._words.append(Word(row, by, verdict))
        self._last[row.id] = by, verdict

    def change(self, row: Row) -> None:
        """Note that a row changes which is not published."""
        self._changed[row.id] = row

    def publish(self, row: Row, kind: Ending = Ending.PUBLISHED) -> None:
        """Make a row visible at once, whatever its author's turn."""
        lifecycle.publish(row, self.rooms[row.room_id], self._now)
        self._changed[row.id] = row
        self._kinds[row.id] = kind

    def end(self, row: Row, kind: Ending, by: str, verdict: Verdict) -> None:
        """Take down how the review of a row ended that was published before."""
        self._ended.append(endings.ended(row, self.rooms[row.room_id], by, verdict, kind))

    def resume(self, rows: Sequence[Row]) -> None:
        """Ask the reviewers that come after the steps which let these rows pass."""
        asked = pipeline.resume(rows, self.rooms, self._now) if rows else pipeline.NOTHING_ASKED
        self._deferred += asked.deferred
        for row, by, verdict in asked.said:
            self.note(row, by, verdict)

    def conclude(self) -> None:
        """Write: publish what is ready, store everything, tell the apps, and after the commit the gateways."""
        self._release()
        rows = list(self._changed.values())
        decide_queries.store(rows, self._found, self._words, self._now)
        pipeline.defer(self._deferred)
        published = [row for row in rows if row.status == Status.PUBLISHED]
        self.entries += lifecycle.tell(lifecycle.entries_of(published, self.rooms), self.rooms)
        if signals.reviews_ended.has_listeners():
            endings.tell(self._ended + self._endings(rows), self.rooms)
        news = [
            (row.origin, outcome_of(row, self.rooms[row.room_id].epoch))
            for row in rows
            if row.origin and row.status not in (Status.ACCEPTED, Status.APPROVED)
        ]
        announce.after_commit(entries=self.entries, news=news)

    def _release(self) -> None:
        """Publish what is ready of the authors concerned, in order of acceptance."""
        authors = {(row.room_id, row.author) for row in self._changed.values()}
        following = self._found.next
        # Messages that nobody asked about come in between only where the first of them is ready but for its turn.
        mixed = {key for key in authors if key in following and following[key][1] == Status.APPROVED}
        alone = sorted(
            (row for row in self.rows.values() if (key := (row.room_id, row.author)) in authors and key not in mixed),
            key=lambda row: row.id,
        )
        ready = [
            row
            for row in lifecycle.take_ready(alone)
            if (first := following.get((row.room_id, row.author))) is None or row.id < first[0]
        ]
        if mixed:
            decided = [row.id for row in self._changed.values() if row.status != Status.ACCEPTED]
            undecided = queries.find_undecided(mixed, decided)
            ready += lifecycle.take_ready([self.rows.get(row.id, row) for row in undecided])
        for row in sorted(ready, key=lambda row: row.id):
            self.publish(row)

    def _endings(self, rows: Sequence[Row]) -> list[Reviewed]:
        # What waited for its turn was decided earlier.
        before = waiting_queries.read_last_words([row.id for row in rows if row.id not in self._last])
        ended = []
        for row in rows:
            said = self._last.get(row.id) or before.get(row.id)
            if said is not None:
                ended.append(endings.ending_of(row, self.rooms[row.room_id], *said, self._kinds.get(row.id)))
        return [one for one in ended if one is not None]
