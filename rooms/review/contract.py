"""The words between the log and those who check messages before anybody sees them.

A reviewer is named by dotted path in the setting ROOMS_REVIEWERS, and asked in that order, like middleware.
It answers each submission with a Verdict, with a Deferral (its verdict comes later, through rooms.review.decide), or
with None: no objection, ask the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any, Protocol

import msgspec

from rooms.log.content import Content

STEP_MAX_CHARACTERS = 120  # of the name under which a verdict is recorded


class Action(StrEnum):
    """What a verdict does with a message."""

    PUBLISH = "publish"  # as it is
    REPLACE = "replace"  # with other content
    REJECT = "reject"  # never shown; the author is told why
    HOLD = "hold"  # a human decides


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """A message on its way to the room. `passed` is this reviewer's own last step, "" at first."""

    room_id: int
    room: str
    message_id: str
    author: str
    client_id: str | None
    connection_id: str | None
    content: Content
    accepted_ms: int  # milliseconds since the epoch
    passed: str = ""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A decision. `content` goes with REPLACE; code, reason and detail are what the author of a rejected one sees."""

    action: Action
    content: Content | None = None
    code: int | None = None
    reason: str = ""
    detail: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Deferral:
    """The verdict comes later. `step` names whose, unique within the reviewer; `at_deadline` is never REPLACE."""

    step: str
    budget: timedelta
    at_deadline: Action


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A late verdict on one message. It counts only if the message still awaits exactly this step."""

    message: int  # primary key
    awaiting: str  # "reviewer:step"
    verdict: Verdict
    by: str = field(default="")  # recorded; the step itself where empty


class Reviewer(Protocol):
    """One stage of the review. Instances are shared by threads and keep no state between calls."""

    name: str

    def review(self, submissions: Sequence[Submission]) -> Sequence[Verdict | Deferral | None]:
        """Answer each submission, in order. Called inside the accepting transaction, before the rows exist."""

    def defer(self, deferred: Sequence[tuple[int, Submission, Deferral]]) -> None:
        """Write what the deferred verdicts need (primary key, submission, deferral). Same transaction, rows exist."""


def awaiting(reviewer: Reviewer, step: str) -> str:
    """Return the name under which a message waits for a reviewer's step."""
    return f"{reviewer.name}:{step}"
