"""Asking the reviewers, in the order that the settings list them, and turning their verdicts into statuses.

Called under the locks of the rooms. Nothing here writes: callers store the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache

from django.conf import settings
from django.utils.module_loading import import_string

from rooms.errors import Code
from rooms.models import Status
from rooms.queries import LockedRoom, Row, milliseconds
from rooms.review import Action, Deferral, Reviewer, Submission, Verdict, awaiting

MODERATOR = "moderator"  # who a held message awaits

Deferred = tuple[Reviewer, Row, Submission, Deferral]


@cache
def reviewers() -> tuple[Reviewer, ...]:
    """Return the reviewers that the setting ROOMS_REVIEWERS lists, in their order."""
    return tuple(import_string(path)() for path in settings.ROOMS_REVIEWERS)


def review(rows: Sequence[Row], rooms: dict[int, LockedRoom], now: datetime) -> list[Deferred]:
    """Ask all reviewers about new rows. Rows end approved, rejected, held, or accepted with what they await."""
    return _ask([(row, "") for row in rows], reviewers(), rooms, now)


def resume(row: Row, rooms: dict[int, LockedRoom], now: datetime) -> list[Deferred]:
    """Go on with a row whose awaited step let it pass: the same reviewer's next steps, then the later reviewers."""
    name, _, step = row.awaiting.partition(":")
    row.status, row.awaiting, row.deadline, row.at_deadline = Status.APPROVED, "", None, ""
    places = [place for place, reviewer in enumerate(reviewers()) if reviewer.name == name]
    if not places:  # a reviewer that the settings no longer list has nothing more to say
        return []
    return _ask([(row, step)], reviewers()[places[0] :], rooms, now)


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


def _ask(
    asked: Sequence[tuple[Row, str]], stages: Sequence[Reviewer], rooms: dict[int, LockedRoom], now: datetime
) -> list[Deferred]:
    deferred: list[Deferred] = []
    passed = {id(row): step for row, step in asked}
    for place, reviewer in enumerate(stages):
        open_rows = [row for row, _ in asked if row.status == Status.APPROVED]
        if not open_rows:
            break
        submissions = [
            submission_of(row, rooms[row.room_id].name, passed[id(row)] if place == 0 else "") for row in open_rows
        ]
        answers = reviewer.review(submissions)
        for row, submission, answer in zip(open_rows, submissions, answers, strict=True):
            if isinstance(answer, Deferral):
                _await(row, reviewer, answer, now)
                deferred.append((reviewer, row, submission, answer))
            elif answer is not None:
                apply(row, answer)
    return deferred


def _await(row: Row, reviewer: Reviewer, deferral: Deferral, now: datetime) -> None:
    limit = timedelta(seconds=settings.REVIEW_DEADLINE_MAX_SECONDS)
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
