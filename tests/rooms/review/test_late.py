"""Late verdicts: the table, case by case, and what of a message's past decides where in it a verdict stands."""

from __future__ import annotations

import re

import pytest

from integrations.models import Late
from rooms.models import Status
from rooms.review import late
from rooms.review.contract import VerdictAction
from rooms.review.endings import Ending
from rooms.review.late import (
    AUDIENCES,
    EFFECTS,
    Effect,
    History,
    LatePolicy,
    Standing,
    effect_of,
    may_apply,
    standing_of,
)

PUBLISH, REPLACE, REJECT, HOLD = VerdictAction
STEP, OTHER = "integrations:rule-1", "integrations:rule-2"
DEADLINE, LATE = f"deadline of {STEP}", f"late {STEP}"


@pytest.mark.parametrize(
    ("standing", "edited_late", "effects"),
    [
        (Standing.PUBLISHED, False, "keep edit retract retract"),
        (Standing.PUBLISHED, True, "refuse refuse retract retract"),
        (Standing.WAITING, False, "keep resume reject hold"),
        (Standing.WAITING, True, "refuse refuse reject hold"),
        (Standing.REJECTED, False, "restore restore keep hold"),
        (Standing.HELD, False, "restore restore reject keep"),
        (Standing.OVERTAKEN, False, "refuse refuse refuse refuse"),
    ],
)
def test_each_case_of_the_table(standing: Standing, edited_late: bool, effects: str) -> None:
    found = [effect_of(standing, action, edited_late=edited_late) for action in VerdictAction]
    assert " ".join(found) == effects
    # The module's own words say the same.
    row = f"{standing}{' yes' if edited_late else ''} {effects}"
    assert row in re.sub(r" +", " ", late.__doc__ or "")


def test_the_table_is_whole_and_says_of_each_effect_who_is_told() -> None:
    assert set(EFFECTS) == set(Standing)
    assert all(set(of_standing) == set(VerdictAction) for of_standing in EFFECTS.values())
    assert set(AUDIENCES) == set(Effect)
    assert {audience.apps for audience in AUDIENCES.values() if audience.apps} <= set(Ending)


@pytest.mark.parametrize(
    ("status", "verdicts", "is_changed", "only_late_edits", "expected"),
    [
        # The deadline decided, and nobody since.
        (Status.PUBLISHED, [(DEADLINE, PUBLISH)], False, False, (Standing.PUBLISHED, False)),
        (Status.ACCEPTED, [(DEADLINE, PUBLISH)], False, False, (Standing.WAITING, False)),
        (Status.APPROVED, [(DEADLINE, PUBLISH)], False, False, (Standing.WAITING, False)),
        (Status.REJECTED, [(DEADLINE, REJECT)], False, False, (Standing.REJECTED, False)),
        (Status.HELD, [(DEADLINE, HOLD)], False, False, (Standing.HELD, False)),
        # Verdicts of before the deadline do not matter, nor that other steps let it pass.
        (Status.PUBLISHED, [("word rules", REPLACE), (DEADLINE, PUBLISH)], False, False, (Standing.PUBLISHED, False)),
        (Status.PUBLISHED, [(DEADLINE, PUBLISH), (OTHER, PUBLISH)], False, False, (Standing.PUBLISHED, False)),
        # This step's deadline did not decide.
        (Status.ACCEPTED, [], False, False, (Standing.OVERTAKEN, False)),
        (Status.PUBLISHED, [(f"deadline of {OTHER}", PUBLISH)], False, False, (Standing.OVERTAKEN, False)),
        # A reviewer or a moderator has decided since.
        (Status.REJECTED, [(DEADLINE, PUBLISH), (OTHER, REJECT)], False, False, (Standing.OVERTAKEN, False)),
        (Status.PUBLISHED, [(DEADLINE, PUBLISH), (OTHER, REPLACE)], False, False, (Standing.OVERTAKEN, False)),
        (Status.PUBLISHED, [(DEADLINE, HOLD), ("moderator m", PUBLISH)], False, False, (Standing.OVERTAKEN, False)),
        (Status.PUBLISHED, [(DEADLINE, PUBLISH)], True, False, (Standing.OVERTAKEN, False)),
        # This step's late verdict has counted already.
        (Status.PUBLISHED, [(DEADLINE, PUBLISH), (LATE, PUBLISH)], False, False, (Standing.OVERTAKEN, False)),
        # Another step's late verdict has replaced the content.
        (Status.PUBLISHED, [(DEADLINE, PUBLISH), (f"late {OTHER}", REPLACE)], True, True, (Standing.PUBLISHED, True)),
        (Status.ACCEPTED, [(DEADLINE, PUBLISH), (f"late {OTHER}", REPLACE)], False, False, (Standing.WAITING, True)),
        (Status.PUBLISHED, [(DEADLINE, PUBLISH), (f"late {OTHER}", REJECT)], True, True, (Standing.OVERTAKEN, False)),
    ],
)
def test_the_past_of_a_message_decides_how_it_stands(
    status: Status,
    verdicts: list[tuple[str, VerdictAction]],
    is_changed: bool,
    only_late_edits: bool,
    expected: tuple[Standing, bool],
) -> None:
    history = History(status=status, verdicts=verdicts, is_changed=is_changed, only_late_edits=only_late_edits)
    assert standing_of(history, STEP) == expected


def test_a_late_verdict_may_count_only_after_the_deadline_and_where_the_rule_wants_it() -> None:
    allowed = {
        (policy, is_past)
        for policy in LatePolicy
        for is_past in (False, True)
        if may_apply(policy, is_past_deadline=is_past)
    }
    assert allowed == {(LatePolicy.APPLY, True)}


def test_rules_have_the_policies_of_the_table() -> None:
    assert set(Late.values) == set(LatePolicy)
