"""Asks the reviewers, in the order that the settings list them, and applies their verdicts to rows.

Called under the locks of the rooms. Only `defer` writes: callers store the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache

import msgspec
from django.conf import settings
from django.utils.module_loading import import_string

from rooms.log import lifecycle
from rooms.log.content import Draft
from rooms.log.rows import LockedRoom, Row, draft_of
from rooms.models import Status
from rooms.review.contract import AwaitedVerdict, Deferral, Reviewer, Verdict, VerdictAction, awaiting

Deferred = tuple[Reviewer, Row, Draft, Deferral]
Start = tuple[
    Row, int, str
]  # a row, the place of the first reviewer to ask, and that reviewer's step which let the row pass


class Answers(msgspec.Struct, frozen=True):
    """The answers of reviewers about some rows."""

    drafts: list[tuple[Row, Draft]]  # as they were before the first reviewer
    deferred: list[Deferred]  # verdicts that come later
    verdicts: list[tuple[Row, str, Verdict]]  # verdicts that came at once, in order, with the reviewer's name


NO_ANSWERS = Answers([], [], [])


@cache
def reviewers() -> tuple[Reviewer, ...]:
    """Return the reviewers that the setting ROOMS_REVIEWERS lists, in their order."""
    return tuple(import_string(path)() for path in settings.ROOMS_REVIEWERS)


def review(rows: Sequence[Row], rooms: dict[int, LockedRoom], now: datetime) -> Answers:
    """Ask all reviewers about new rows. Each row ends approved, rejected, held, or accepted with an awaited step."""
    return _ask([(row, 0, "") for row in rows], rooms, now)


def resume(rows: Sequence[Row], rooms: dict[int, LockedRoom], now: datetime) -> Answers:
    """Approve rows that passed their awaited step, and ask the same reviewer's next steps and the later reviewers."""
    places = {reviewer.name: place for place, reviewer in enumerate(reviewers())}
    starts: list[Start] = []
    for row in rows:
        name, _, step = row.awaiting.partition(":")
        lifecycle.approve(row)
        if name in places:  # a reviewer that the settings no longer list is not asked
            starts.append((row, places[name], step))
    return _ask(starts, rooms, now)


def apply(row: Row, verdict: Verdict) -> None:
    """Apply one verdict to a row: replace its content, reject it, or hold it."""
    if verdict.action is VerdictAction.REPLACE:
        assert verdict.content is not None
        row.content = verdict.content
    elif verdict.action is VerdictAction.REJECT:
        lifecycle.reject(row, code=verdict.code, reason=verdict.reason, detail=verdict.detail)
    elif verdict.action is VerdictAction.HOLD:
        lifecycle.hold(row, reason=verdict.reason)


def defer(deferred: Sequence[Deferred]) -> None:
    """Let each reviewer store what its deferred verdicts need, now that the rows have primary keys. Writes.

    A row that no longer awaits the step is left out: a later verdict of the same transaction has ended its wait.
    """
    by_reviewer: dict[str, list[Deferred]] = {}
    for item in deferred:
        reviewer, row, _, deferral = item
        if row.awaiting == awaiting(reviewer, deferral.step):
            by_reviewer.setdefault(reviewer.name, []).append(item)
    for items in by_reviewer.values():
        items[0][0].defer([_awaited(row, draft, deferral) for _, row, draft, deferral in items])


def _ask(starts: Sequence[Start], rooms: dict[int, LockedRoom], now: datetime) -> Answers:
    """Ask each reviewer once, about all rows that reach it."""
    answers = Answers([(row, draft_of(row, rooms[row.room_id].name, passed=step)) for row, _, step in starts], [], [])
    joining: dict[int, list[tuple[Row, Draft]]] = {}
    for (_, place, _), pair in zip(starts, answers.drafts, strict=True):
        joining.setdefault(place, []).append(pair)
    passing: list[tuple[Row, Draft]] = []
    for place, reviewer in enumerate(reviewers()):
        passing = [(row, _for_next(row, draft)) for row, draft in passing] + joining.get(place, [])
        if passing:
            _ask_reviewer(reviewer, passing, answers, now)
            passing = [pair for pair in passing if pair[0].status == Status.APPROVED]
    return answers


def _ask_reviewer(reviewer: Reviewer, passing: Sequence[tuple[Row, Draft]], answers: Answers, now: datetime) -> None:
    verdicts = reviewer.review([draft for _, draft in passing])
    for (row, draft), verdict in zip(passing, verdicts, strict=True):
        if isinstance(verdict, Deferral):
            _await(row, reviewer, verdict, now)
            answers.deferred.append((reviewer, row, draft, verdict))
        elif verdict is not None:
            apply(row, verdict)
            answers.verdicts.append((row, reviewer.name, verdict))


def _for_next(row: Row, draft: Draft) -> Draft:
    """Return the draft for the next reviewer: with the content that earlier ones left, and without their steps."""
    if draft.content is row.content and not draft.passed:
        return draft
    return msgspec.structs.replace(draft, content=row.content, passed="")


def _awaited(row: Row, draft: Draft, deferral: Deferral) -> AwaitedVerdict:
    assert row.deadline is not None
    return AwaitedVerdict(message=row.id, draft=draft, step=deferral.step, deadline=row.deadline)


def _await(row: Row, reviewer: Reviewer, deferral: Deferral, now: datetime) -> None:
    deadline = now + min(deferral.budget, timedelta(seconds=settings.REVIEW_WAIT_SECONDS))
    step = awaiting(reviewer, deferral.step)
    lifecycle.await_verdict(row, step, deadline=deadline, at_deadline=deferral.at_deadline)
