"""The contract between the log and reviewers, which check messages before anybody sees them. Pure.

The setting ROOMS_REVIEWERS lists reviewers by dotted path; drafts pass through them in that order, as through
middleware. A reviewer answers each draft with a Verdict, with a Deferral (its verdict comes later, through
rooms.review.decide), or with None: no objection, the next reviewer is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol

from rooms.log.content import Content, Draft

STEP_MAX_CHARACTERS = 120  # of the name under which a verdict is stored


class VerdictAction(StrEnum):
    """The effect of a verdict on a message."""

    PUBLISH = "publish"  # as it is
    REPLACE = "replace"  # with other content
    REJECT = "reject"  # never shown; the author gets the reason
    HOLD = "hold"  # a moderator decides

    @property
    def refuses(self) -> bool:
        """Whether a message with this verdict is not shown, or not yet."""
        return self in (VerdictAction.REJECT, VerdictAction.HOLD)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A reviewer's verdict. `content` goes with REPLACE; the author of a rejected message gets the other fields."""

    action: VerdictAction
    content: Content | None = None
    code: int | None = None
    reason: str = ""
    detail: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Deferral:
    """A verdict that will come within `budget`, or else be `at_deadline` (never REPLACE).

    `step` names it, unique within the reviewer."""

    step: str
    budget: timedelta
    at_deadline: VerdictAction


@dataclass(frozen=True, kw_only=True)
class AwaitedVerdict:
    """A stored message that waits for a deferred verdict. What a reviewer keeps about it has the same deadline."""

    message: int  # primary key
    draft: Draft
    step: str
    deadline: datetime


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A deferred verdict on one message. It counts only if the message still awaits exactly this step."""

    message: int  # primary key
    awaiting: str  # "reviewer:step"
    verdict: Verdict
    by: str = field(default="")  # the name stored with the verdict; empty: the step


class Reviewer(Protocol):
    """One stage of the review. Threads share an instance, so it keeps no state between calls."""

    name: str

    def review(self, drafts: Sequence[Draft]) -> Sequence[Verdict | Deferral | None]:
        """Return an answer for each draft, in order. Called inside the accepting transaction, before the rows exist."""

    def defer(self, awaited: Sequence[AwaitedVerdict]) -> None:
        """Write what the deferred verdicts need. Called in the same transaction, once the rows exist."""


def awaiting(reviewer: Reviewer, step: str) -> str:
    """Return the name of a reviewer's step, as messages that wait for it store it."""
    return f"{reviewer.name}:{step}"
