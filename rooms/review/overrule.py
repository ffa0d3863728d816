"""Applies verdicts that come after the deadline has decided, as the table of rooms.review.late says."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.db import transaction

from rooms.database.small_tables import versions_read
from rooms.log import amend, lifecycle
from rooms.log.amend import Change
from rooms.log.content import Content
from rooms.log.outcomes import Outcome
from rooms.log.rows import Row
from rooms.models import MessageAction, Status
from rooms.review import decision_queries, verdict_history
from rooms.review.contract import Decision
from rooms.review.decide import outcome_of_decision, rounds_of
from rooms.review.decisions import Decisions
from rooms.review.endings import Ending
from rooms.review.late import AUDIENCES, Effect, History, effect_of, is_late, late_of, standing_of

Counted = tuple[Effect, Row, Decision]  # a late verdict that counts, with its effect
REVIEWED = (Effect.REJECT, Effect.HOLD, Effect.RESUME, Effect.RESTORE)


def overrule(decisions: Sequence[Decision], *, now: datetime, lock_seconds: float | None = None) -> list[Outcome]:
    """Apply verdicts on messages that the deadline of the awaited step decided. Return outcomes, in order.

    Each late verdict that counts is recorded, also one that changes nothing, and counts once. It is STALE if that
    deadline did not decide, or another decision came since.

    One transaction, which locks rooms: do not call it inside one that has locked other rooms. `lock_seconds` limits
    each of its waits for a lock.
    """
    if not decisions:
        return []
    with transaction.atomic():
        undecided = decision_queries.read_locked([decision.message for decision in decisions], lock_seconds)
        with versions_read(undecided.versions):
            late = LateDecisions(Decisions(undecided, now), now)
            stale: set[int] = set()
            for round_ in rounds_of(decisions):
                stale |= late.apply(round_)
            late.decisions.conclude()
    return [outcome_of_decision(decision, place in stale, undecided) for place, decision in enumerate(decisions)]


class LateDecisions:
    """The late verdicts of one transaction, and the earlier verdicts on their messages."""

    def __init__(self, decisions: Decisions, now: datetime) -> None:
        self.decisions = decisions
        self._now = now
        self._verdicts = verdict_history.read(decisions.rows)
        edited = [row.id for row in decisions.rows.values() if row.action == MessageAction.UPDATE]
        self._edited_late = {
            id_ for id_, editors in verdict_history.read_editors(edited).items() if all(map(is_late, editors))
        }

    def apply(self, round_: Sequence[tuple[int, Decision]]) -> set[int]:
        """Apply decisions, at most one a message. Return the places of those that do not count."""
        stale: set[int] = set()
        counted: list[Counted] = []
        for place, decision in round_:
            row = self.decisions.rows.get(decision.message)
            effect = Effect.REFUSE if row is None else self._effect_of(row, decision)
            if row is None or effect is Effect.REFUSE:
                stale.add(place)
                continue
            step = late_of(decision.awaiting)
            self._verdicts[row.id].append((step, decision.verdict.action))
            self.decisions.record(row, step, decision.verdict)
            counted.append((effect, row, decision))
        self._change([late for late in counted if late[0] in (Effect.EDIT, Effect.RETRACT)])
        self._review([late for late in counted if late[0] in REVIEWED])
        return stale

    def _effect_of(self, row: Row, decision: Decision) -> Effect:
        history = History(
            status=row.status,
            verdicts=self._verdicts.get(row.id, ()),
            is_changed=row.action != MessageAction.CREATE,
            only_late_edits=row.id in self._edited_late,
        )
        standing, edited_late = standing_of(history, decision.awaiting)
        return effect_of(standing, decision.verdict.action, edited_late=edited_late)

    def _change(self, counted: Sequence[Counted]) -> None:
        """Edit or hide published rows."""
        changes = [_change_of(effect, row, decision) for effect, row, decision in counted]
        self.decisions.entries += amend.apply(changes, self.decisions.rooms, self._now)
        for (effect, row, decision), change in zip(counted, changes, strict=True):
            if ending := AUDIENCES[effect].apps:
                self.decisions.end(row, Ending(ending), change.by, decision.verdict)
            if effect is Effect.EDIT:
                self._edited_late.add(row.id)

    def _review(self, counted: Sequence[Counted]) -> None:
        """Reject or hold rows that are not published, or ask the later reviewers about them."""
        for _, row, decision in counted:
            lifecycle.reopen(row, decision.awaiting)
            self.decisions.apply(row, decision.verdict)
        self.decisions.resume([row for effect, row, _ in counted if effect in (Effect.RESUME, Effect.RESTORE)])
        for effect, row, _ in counted:
            if effect is Effect.RESTORE and row.status == Status.APPROVED:
                self.decisions.publish(row, Ending(AUDIENCES[effect].apps))


def _change_of(effect: Effect, row: Row, decision: Decision) -> Change:
    by = late_of(decision.awaiting)
    if effect is Effect.RETRACT:
        return Change(row=row, action=MessageAction.DELETE, content=Content(name=row.content.name), by=by)
    assert decision.verdict.content is not None
    return Change(row=row, action=MessageAction.UPDATE, content=decision.verdict.content, by=by)
