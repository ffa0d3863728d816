"""The contract between the log and reviewers, which check messages before anybody sees them. Pure.

A reviewer is named by dotted path in the setting ROOMS_REVIEWERS, and asked in that order, like middleware.
It answers each draft with a Verdict, with a Deferral (its verdict comes later, through rooms.review.decide), or
with None: no objection, ask the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any, Protocol

from rooms.log.content import Content, Draft

STEP_MAX_CHARACTERS = 120  # of the name under which a verdict is recorded


class VerdictAction(StrEnum):
    """What a verdict does with a message."""

    PUBLISH = "publish"  # as it is
    REPLACE = "replace"  # with other content
    REJECT = "reject"  # never shown; the author is told why
    HOLD = "hold"  # a human decides

    @property
    def refuses(self) -> bool:
        """Whether a message with this verdict is not shown, or not yet."""
        return self in (VerdictAction.REJECT, VerdictAction.HOLD)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A decision. `content` goes with REPLACE; code, reason and detail are what the author of a rejected one sees."""

    action: VerdictAction
    content: Content | None = None
    code: int | None = None
    reason: str = ""
    detail: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Deferral:
    """The promise of a verdict. `step` names it, unique within the reviewer; `at_deadline` is never REPLACE."""

    step: str
    budget: timedelta
    at_deadline: VerdictAction


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A deferred verdict on one message. It counts only if the message still awaits exactly this step."""

    message: int  # primary key
    awaiting: str  # "reviewer:step"
    verdict: Verdict
    by: str = field(default="")  # recorded; the step itself where empty


class Reviewer(Protocol):
    """One stage of the review. Instances are shared by threads and keep no state between calls."""

    name: str

    def review(self, drafts: Sequence[Draft]) -> Sequence[Verdict | Deferral | None]:
        """Answer each draft, in order. Called inside the accepting transaction, before the rows exist."""

    def defer(self, deferred: Sequence[tuple[int, Draft, Deferral]]) -> None:
        """Write what the deferred verdicts need (primary key, draft, deferral). Same transaction, rows exist."""


def awaiting(reviewer: Reviewer, step: str) -> str:
    """Return the name under which a message waits for a reviewer's step."""
    return f"{reviewer.name}:{step}"
