"""Asking the reviewers, in the order that the settings list them, and turning their verdicts into statuses.

Called under the locks of the rooms. Nothing here writes: callers store the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache

import msgspec
from django.conf import settings
from django.utils.module_loading import import_string

from rooms.errors import Code
from rooms.log.rows import LockedRoom, Row, milliseconds
from rooms.models import Status
from rooms.review.contract import Action, Deferral, Reviewer, Submission, Verdict, awaiting

MODERATOR = "moderator"  # who a held message awaits

Deferred = tuple[Reviewer, Row, Submission, Deferral]
Start = tuple[Row, int, str]  # a row, the place of the first reviewer to ask, and that one's step which let it pass


class Asked(msgspec.Struct, frozen=True):
    """What came of asking: what was asked at first, verdicts that come later, and those that came at once, in order."""

    submissions: list[tuple[Row, Submission]]
    deferred: list[Deferred]
    said: list[tuple[Row, str, Verdict]]  # with the reviewer's name


NOTHING_ASKED = Asked([], [], [])


@cache
def reviewers() -> tuple[Reviewer, ...]:
    """Return the reviewers that the setting ROOMS_REVIEWERS lists, in their order."""
    return tuple(import_string(path)() for path in settings.ROOMS_REVIEWERS)


def review(rows: Sequence[Row], rooms: dict[int, LockedRoom], now: datetime) -> Asked:
    """Ask all reviewers about new rows. Rows end approved, rejected, held, or accepted with what they await."""
    return _ask([(row, 0, "") for row in rows], rooms, now)


def resume(rows: Sequence[Row], rooms: dict[int, LockedRoom], now: datetime) -> Asked:
    """Go on with rows whose awaited step let them pass: the same reviewer's next steps, then the later reviewers."""
    places = {reviewer.name: place for place, reviewer in enumerate(reviewers())}
    starts: list[Start] = []
    for row in rows:
        name, _, step = row.awaiting.partition(":")
        row.status, row.awaiting, row.deadline, row.at_deadline = Status.APPROVED, "", None, ""
        if name in places:  # a reviewer that the settings no longer list has nothing more to say
            starts.append((row, places[name], step))
    return _ask(starts, rooms, now)


def reopen(row: Row, awaiting: str) -> None:
    """Let a row that is not published be again what it was when it awaited a step, for a verdict and `resume`."""
    row.status, row.awaiting, row.deadline, row.at_deadline = Status.APPROVED, awaiting, None, ""
    row.error_code, row.reason, row.detail = None, "", None


def apply(row: Row, verdict: Verdict) -> None:
    """Let one verdict change a row: its content, or its end."""
    if verdict.action is Action.REPLACE:
        assert verdict.content is not None
        row.content = verdict.content
    elif verdict.action is Action.REJECT:
        row.status, row.awaiting, row.deadline, row.at_deadline = Status.REJECTED, "", None, ""
        row.error_code = verdict.code or Code.REJECTED_BY_MODERATION
        row.reason = (verdict.reason or "The message was refused by a moderator.")[:500]
        row.detail = verdict.detail
    elif verdict.action is Action.HOLD:
        row.status, row.awaiting, row.deadline, row.at_deadline = Status.HELD, MODERATOR, None, ""
        row.reason = verdict.reason[:500]


def defer(deferred: Sequence[Deferred]) -> None:
    """Write: let each reviewer store what its deferred verdicts need, now that the rows have primary keys."""
    by_reviewer: dict[str, list[Deferred]] = {}
    for item in deferred:
        by_reviewer.setdefault(item[0].name, []).append(item)
    for items in by_reviewer.values():
        items[0][0].defer([(row.id, submission, deferral) for _, row, submission, deferral in items])


def _ask(starts: Sequence[Start], rooms: dict[int, LockedRoom], now: datetime) -> Asked:
    """Ask each reviewer once, about all rows that reach it."""
    asked = Asked([(row, submission_of(row, rooms[row.room_id].name, step)) for row, _, step in starts], [], [])
    joining: dict[int, list[tuple[Row, Submission]]] = {}
    for (_, place, _), pair in zip(starts, asked.submissions, strict=True):
        joining.setdefault(place, []).append(pair)
    passing: list[tuple[Row, Submission]] = []
    for place, reviewer in enumerate(reviewers()):
        passing = [(row, _for_next(row, submission)) for row, submission in passing] + joining.get(place, [])
        if passing:
            _ask_one(reviewer, passing, asked, now)
            passing = [pair for pair in passing if pair[0].status == Status.APPROVED]
    return asked


def _ask_one(reviewer: Reviewer, passing: Sequence[tuple[Row, Submission]], asked: Asked, now: datetime) -> None:
    answers = reviewer.review([submission for _, submission in passing])
    for (row, submission), answer in zip(passing, answers, strict=True):
        if isinstance(answer, Deferral):
            _await(row, reviewer, answer, now)
            asked.deferred.append((reviewer, row, submission, answer))
        elif answer is not None:
            apply(row, answer)
            asked.said.append((row, reviewer.name, answer))


def _for_next(row: Row, submission: Submission) -> Submission:
    """Return what the next reviewer is asked: the same, but for new content and for steps of the one before."""
    if submission.content is row.content and not submission.passed:
        return submission
    return msgspec.structs.replace(submission, content=row.content, passed="")


def _await(row: Row, reviewer: Reviewer, deferral: Deferral, now: datetime) -> None:
    limit = timedelta(seconds=settings.REVIEW_WAIT_SECONDS)
    row.status = Status.ACCEPTED
    row.awaiting = awaiting(reviewer, deferral.step)
    row.deadline = now + min(deferral.budget, limit)
    row.at_deadline = deferral.at_deadline


def submission_of(row: Row, room: str, passed: str) -> Submission:
    """Return a row as reviewers see it."""
    return Submission(
        room_id=row.room_id,
        room=room,
        message_id=row.message_id,
        author=row.author,
        client_id=row.client_id,
        connection_id=row.connection_id,
        content=row.content,
        accepted_ms=milliseconds(row.accepted_at),
        passed=passed,
    )
