"""Verdicts that come after the deadline has decided: they may still change what nobody decided since."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.db import transaction

from rooms.database.small_tables import versions_read
from rooms.log import amend
from rooms.log.amend import Change
from rooms.log.content import Content
from rooms.log.outcomes import Outcome
from rooms.log.rows import Row
from rooms.models import MessageAction, Status
from rooms.review import decide_queries, waiting_queries
from rooms.review.contract import STEP_MAX_CHARACTERS, Action, Decision
from rooms.review.decide import deadline_of, in_turn, outcome_of_decision
from rooms.review.decisions import Settling
from rooms.review.endings import Ending
from rooms.review.pipeline import apply, reopen

LATE = "late "
ENDS = {Action.REJECT: Status.REJECTED, Action.HOLD: Status.HELD}


def overrule(decisions: Sequence[Decision], *, now: datetime) -> list[Outcome]:
    """Apply verdicts on messages that the deadline of the awaited step decided. Return an outcome each, in order.

    What was published is retracted (reject, hold) or edited (replace). What was rejected or held is restored: the
    later reviewers are asked, and it is published now, whatever its author's turn; or it gets the verdict. So does
    what waits for a later step. Each late verdict is recorded, also one that changes nothing, and counts once.
    STALE: that deadline did not decide, or somebody has decided since (what other steps let pass is no such decision).

    One transaction. It locks rooms: do not call it in one that has locked others, as `decide` does.
    """
    if not decisions:
        return []
    with transaction.atomic():
        found = decide_queries.look([decision.message for decision in decisions])
        with versions_read(found.versions):
            overruling = Overruling(Settling(found, now), now)
            stale: set[int] = set()
            for turn in in_turn(decisions):
                stale |= overruling.take(turn)
            overruling.settling.conclude()
    return [outcome_of_decision(decision, place in stale, found) for place, decision in enumerate(decisions)]


def late_of(awaiting: str) -> str:
    """Return the step under which a late verdict is recorded."""
    return f"{LATE}{awaiting}"[:STEP_MAX_CHARACTERS]


class Overruling:
    """The late verdicts of one transaction, and what was said of their messages before."""

    def __init__(self, settling: Settling, now: datetime) -> None:
        self.settling = settling
        self._now = now
        self._words = waiting_queries.read_words(settling.rows)
        edited = [row.id for row in settling.rows.values() if row.action == MessageAction.UPDATE]
        # Those that only late verdicts have edited.
        self._edited = {id_ for id_, by in waiting_queries.read_editors(edited).items() if all(map(is_late, by))}

    def take(self, turn: Sequence[tuple[int, Decision]]) -> set[int]:
        """Let decisions, one a message, change their rows. Return the places of those that do not count."""
        stale: set[int] = set()
        counted: list[tuple[Row, Decision]] = []
        for place, decision in turn:
            row = self.settling.rows.get(decision.message)
            if row is None or not self._counts(row, decision):
                stale.add(place)
                continue
            by = late_of(decision.awaiting)
            self._words[row.id].append((by, decision.verdict.action))
            self.settling.note(row, by, decision.verdict)
            counted.append((row, decision))
        self._amend([pair for pair in counted if pair[0].status == Status.PUBLISHED])
        self._review([pair for pair in counted if pair[0].status != Status.PUBLISHED])
        return stale

    def _counts(self, row: Row, decision: Decision) -> bool:
        """Tell whether that step's deadline decided, and nobody since."""
        said, deadline, late = self._words.get(row.id, []), deadline_of(decision.awaiting), late_of(decision.awaiting)
        place = next((place for place in reversed(range(len(said))) if said[place][0] == deadline), None)
        # Another step's late edit is no reason to leave visible what this one refuses.
        refuses = decision.verdict.action in (Action.REJECT, Action.HOLD)
        if place is None or not (row.action == MessageAction.CREATE or (refuses and row.id in self._edited)):
            return False
        since = said[place + 1 :]
        if said[place][1] is not Action.PUBLISH:
            return not since
        return all(
            step != late and (action is Action.PUBLISH or (refuses and action is Action.REPLACE and is_late(step)))
            for step, action in since
        )

    def _amend(self, counted: Sequence[tuple[Row, Decision]]) -> None:
        """Edit or retract what is published."""
        changing = [pair for pair in counted if pair[1].verdict.action is not Action.PUBLISH]
        changes = [_change_of(row, decision) for row, decision in changing]
        self.settling.entries += amend.apply(changes, self.settling.rooms, self._now)
        for (row, decision), change in zip(changing, changes, strict=True):
            if change.action == MessageAction.DELETE:
                self.settling.end(row, Ending.RETRACTED, change.by, decision.verdict)
            else:
                self._edited.add(row.id)

    def _review(self, counted: Sequence[tuple[Row, Decision]]) -> None:
        """Reject, hold or restore what is not published, or let it go on."""
        resumed: list[Row] = []
        restored: list[Row] = []
        for row, decision in counted:
            action, before = decision.verdict.action, row.status
            if before == ENDS.get(action) or (
                action is Action.PUBLISH and before in (Status.ACCEPTED, Status.APPROVED)
            ):
                continue  # that is what the deadline made of it, too
            self.settling.change(row)
            reopen(row, decision.awaiting)
            apply(row, decision.verdict)
            if action not in ENDS:
                resumed.append(row)
                restored += [row] if before in ENDS.values() else []
        self.settling.resume(resumed)
        for row in restored:
            if row.status == Status.APPROVED:
                self.settling.publish(row, Ending.RESTORED)


def is_late(step: str) -> bool:
    """Tell whether a step is that of a late verdict."""
    return step.startswith(LATE)


def _change_of(row: Row, decision: Decision) -> Change:
    by = late_of(decision.awaiting)
    if decision.verdict.action is Action.REPLACE:
        assert decision.verdict.content is not None
        return Change(row=row, action=MessageAction.UPDATE, content=decision.verdict.content, by=by)
    return Change(row=row, action=MessageAction.DELETE, content=Content(name=row.content.name), by=by)
