"""Verdicts that come after the deadline of their step: what each does, as one table. Pure.

Three things decide: how the message stands now, the verdict, and the rule's policy for late verdicts.

    stands    edited late   publish   replace   reject     hold
    published               keep      edit      retract    retract
    published yes           refuse    refuse    retract    retract
    waiting                 keep      resume    reject     hold
    waiting   yes           refuse    refuse    reject     hold
    rejected                restore   restore   keep       hold
    held                    restore   restore   reject     keep
    overtaken               refuse    refuse    refuse     refuse

"Edited late" is a message whose content another step's late verdict has replaced since: that is no reason to leave
visible what this step refuses, but a second replacement would undo the first. "Overtaken" is a message which this
step's deadline did not decide, or which a moderator, a reviewer or this very step has decided since.

Who is told of each effect stands in `TOLD`. Under the policy RECORD nothing of this happens: the caller is told that it
came too late, and that is recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from rooms.models import Status
from rooms.review.contract import STEP_MAX_CHARACTERS, VerdictAction

LATE = "late "
DEADLINE = "deadline of "


class LatePolicy(StrEnum):
    """What a rule wants of verdicts that come after the deadline."""

    RECORD = "record"  # the deadline's verdict stands
    APPLY = "apply"  # the late verdict counts where nobody has decided since


class Standing(StrEnum):
    """How a message stands that the deadline of a step decided."""

    PUBLISHED = "published"
    WAITING = "waiting"  # the deadline let it pass; a later step, or its author's order, keeps it
    REJECTED = "rejected"
    HELD = "held"
    OVERTAKEN = "overtaken"


class Effect(StrEnum):
    """What a late verdict does to a message."""

    KEEP = "keep"  # it says what the deadline said, or less: recorded, and nothing else
    EDIT = "edit"  # members see the message change
    RETRACT = "retract"  # members see the message go
    REJECT = "reject"  # the author is refused now
    HOLD = "hold"  # a moderator decides
    RESUME = "resume"  # with the new content the later reviewers are asked again
    RESTORE = "restore"  # the later reviewers are asked, and it is published now, whatever its author's order
    REFUSE = "refuse"  # it does not count, and is not recorded


class Told(NamedTuple):
    """Who hears of an effect: members by a new entry, apps by `reviews_ended` with this ending, the author at once."""

    members: bool = False
    apps: str | None = None
    author: bool = False


TOLD = {
    Effect.KEEP: Told(),
    Effect.EDIT: Told(members=True),
    Effect.RETRACT: Told(members=True, apps="retracted"),
    Effect.REJECT: Told(apps="rejected", author=True),
    Effect.HOLD: Told(apps="held", author=True),
    Effect.RESUME: Told(),  # as any message that later reviewers pass or refuse
    Effect.RESTORE: Told(members=True, apps="restored", author=True),
    Effect.REFUSE: Told(),
}

_PUBLISH, _REPLACE, _REJECT, _HOLD = VerdictAction
EFFECTS = {
    Standing.PUBLISHED: {
        _PUBLISH: Effect.KEEP, _REPLACE: Effect.EDIT, _REJECT: Effect.RETRACT, _HOLD: Effect.RETRACT,
    },
    Standing.WAITING: {_PUBLISH: Effect.KEEP, _REPLACE: Effect.RESUME, _REJECT: Effect.REJECT, _HOLD: Effect.HOLD},
    Standing.REJECTED: {_PUBLISH: Effect.RESTORE, _REPLACE: Effect.RESTORE, _REJECT: Effect.KEEP, _HOLD: Effect.HOLD},
    Standing.HELD: {_PUBLISH: Effect.RESTORE, _REPLACE: Effect.RESTORE, _REJECT: Effect.REJECT, _HOLD: Effect.KEEP},
    Standing.OVERTAKEN: dict.fromkeys(VerdictAction, Effect.REFUSE),
}  # fmt: skip

STANDINGS = {
    Status.PUBLISHED: Standing.PUBLISHED,
    Status.ACCEPTED: Standing.WAITING,
    Status.APPROVED: Standing.WAITING,
    Status.REJECTED: Standing.REJECTED,
    Status.HELD: Standing.HELD,
}


class History(NamedTuple):
    """The past of a message, as far as late verdicts depend on it."""

    status: Status
    verdicts: Sequence[tuple[str, VerdictAction]]  # with the step that each was recorded under, oldest first
    is_changed: bool  # after it was published: edited or hidden
    only_late_edits: bool  # where it is changed: by late verdicts alone


def effect_of(standing: Standing, action: VerdictAction, *, edited_late: bool) -> Effect:
    """Return what a late verdict does to a message that stands so."""
    if edited_late and not action.refuses:
        return Effect.REFUSE
    return EFFECTS[standing][action]


def standing_of(history: History, awaiting: str) -> tuple[Standing, bool]:
    """Return how a message stands for the late verdict of a step, and whether another late verdict has edited it."""
    verdicts, deadline, late = history.verdicts, deadline_of(awaiting), late_of(awaiting)
    place = next((place for place in reversed(range(len(verdicts))) if verdicts[place][0] == deadline), None)
    overtaken = Standing.OVERTAKEN, False
    if place is None or (history.is_changed and not history.only_late_edits):
        return overtaken
    since = verdicts[place + 1 :]
    if verdicts[place][1].refuses:
        return overtaken if since else (STANDINGS[history.status], False)
    edits = [step for step, action in since if action is VerdictAction.REPLACE]
    if any(step == late or action.refuses for step, action in since) or not all(map(is_late, edits)):
        return overtaken
    return STANDINGS[history.status], bool(edits) or history.is_changed


def may_apply(policy: str, *, is_past_deadline: bool) -> bool:
    """Return whether a verdict under a LatePolicy may have come late and counts all the same: `EFFECTS` say how."""
    return is_past_deadline and policy == LatePolicy.APPLY


def deadline_of(awaiting: str) -> str:
    """Return the step under which the verdict of a deadline is recorded."""
    return f"{DEADLINE}{awaiting}"[:STEP_MAX_CHARACTERS]


def late_of(awaiting: str) -> str:
    """Return the step under which a late verdict is recorded."""
    return f"{LATE}{awaiting}"[:STEP_MAX_CHARACTERS]


def is_late(step: str) -> bool:
    """Return whether a step is that of a late verdict."""
    return step.startswith(LATE)
