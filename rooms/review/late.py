"""Decides the effect of verdicts that come after the deadline of their step, by one table. Pure.

The effect depends on the message's standing, the verdict, and the rule's policy for late verdicts.

    stands    edited late   publish   replace   reject     hold
    published               keep      edit      retract    retract
    published yes           refuse    refuse    retract    retract
    waiting                 keep      resume    reject     hold
    waiting   yes           refuse    refuse    reject     hold
    rejected                restore   restore   keep       hold
    held                    restore   restore   reject     keep
    overtaken               refuse    refuse    refuse     refuse

A message is "edited late" if another step's late verdict has replaced its content since: this step may still refuse
it, but a second replacement would undo the first. It is "overtaken" if this step's deadline
did not decide it, or a moderator, a reviewer or this very step has decided it since.

`AUDIENCES` lists who is notified of each effect. Under the policy RECORD no late verdict has an effect: it is recorded
as too late, and its sender gets that as the answer.
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
    """A rule's policy for verdicts that come after the deadline."""

    RECORD = "record"  # the deadline's verdict stands
    APPLY = "apply"  # the late verdict counts unless another decision came since


class Standing(StrEnum):
    """The state of a message after the deadline of a step decided it."""

    PUBLISHED = "published"
    WAITING = "waiting"  # the deadline let it pass; a later step, or its author's order, keeps it
    REJECTED = "rejected"
    HELD = "held"
    OVERTAKEN = "overtaken"


class Effect(StrEnum):
    """The effect of a late verdict on a message."""

    KEEP = "keep"  # the deadline's verdict was the same or stricter: the late one is only recorded
    EDIT = "edit"  # members see the message change
    RETRACT = "retract"  # members see the message go
    REJECT = "reject"  # the author gets the refusal now
    HOLD = "hold"  # a moderator decides
    RESUME = "resume"  # the later reviewers are asked again, about the new content
    RESTORE = "restore"  # the later reviewers are asked, and it is published now, out of its author's order
    REFUSE = "refuse"  # it does not count, and is not recorded


class Audience(NamedTuple):
    """Those notified of an effect: members by a new entry, apps by `reviews_ended` with an ending, the author."""

    members: bool = False
    apps: str = ""
    author: bool = False


AUDIENCES = {
    Effect.KEEP: Audience(),
    Effect.EDIT: Audience(members=True),
    Effect.RETRACT: Audience(members=True, apps="retracted"),
    Effect.REJECT: Audience(apps="rejected", author=True),
    Effect.HOLD: Audience(apps="held", author=True),
    Effect.RESUME: Audience(),  # as any message that later reviewers pass or refuse
    Effect.RESTORE: Audience(members=True, apps="restored", author=True),
    Effect.REFUSE: Audience(),
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
    """The past of a message that decides about late verdicts."""

    status: Status
    verdicts: Sequence[tuple[str, VerdictAction]]  # each with its step, oldest first
    is_changed: bool  # edited or hidden after it was published
    only_late_edits: bool  # if it is changed: only by late verdicts


def effect_of(standing: Standing, action: VerdictAction, *, edited_late: bool) -> Effect:
    """Return the effect of a late verdict on a message with this standing."""
    if edited_late and not action.refuses:
        return Effect.REFUSE
    return EFFECTS[standing][action]


def standing_of(history: History, awaiting: str) -> tuple[Standing, bool]:
    """Return a message's standing for the late verdict of a step, and whether another late verdict has edited it."""
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
    """Return whether a verdict that may have come after its deadline has an effect under a LatePolicy."""
    return is_past_deadline and policy == LatePolicy.APPLY


def deadline_of(awaiting: str) -> str:
    """Return the step under which a deadline's verdict is stored."""
    return f"{DEADLINE}{awaiting}"[:STEP_MAX_CHARACTERS]


def late_of(awaiting: str) -> str:
    """Return the step under which a late verdict is stored."""
    return f"{LATE}{awaiting}"[:STEP_MAX_CHARACTERS]


def is_late(step: str) -> bool:
    """Return whether a stored step is that of a late verdict."""
    return step.startswith(LATE)
