"""Late verdicts: they change what the deadline decided and nobody since, once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from rooms.log import signals
from rooms.log.amend import edit, hide
from rooms.log.content import Content
from rooms.log.entries import Entry
from rooms.log.outcomes import OutcomeKind
from rooms.models import Message, MessageAction, Room, Status
from rooms.publishing.accept import accept
from rooms.review.contract import Decision, Verdict, VerdictAction
from rooms.review.deadlines import expire
from rooms.review.decide import decide
from rooms.review.endings import Ending, ReviewEnd
from rooms.review.late import AUDIENCES, STANDINGS, effect_of
from rooms.review.overrule import overrule
from tests.rooms.conftest import draft
from tests.rooms.reviewers import Obedient

pytestmark = pytest.mark.django_db

NOW = timezone.now()
LATER = NOW + timedelta(seconds=60)


@pytest.fixture
def told() -> Iterator[list[tuple[str, str, str]]]:
    """What the apps hear of reviews' ends and of changes: (kind, by, text)."""
    heard: list[tuple[str, str, str]] = []

    def hear_ends(sender: object, ended: list[ReviewEnd], **kwargs: object) -> None:
        heard.extend((one.ending, one.by, str(one.message.data)) for one in ended)

    def hear_changes(sender: object, entries: list[Entry], by: str, **kwargs: object) -> None:
        heard.extend((MessageAction(entry.wire.action or 0).label, by, str(entry.wire.data)) for entry in entries)

    signals.reviews_ended.connect(hear_ends)
    signals.messages_amended.connect(hear_changes)
    yield heard
    signals.reviews_ended.disconnect(hear_ends)
    signals.messages_amended.disconnect(hear_changes)


def past_deadline(room: Room, text: str) -> Message:
    """A message whose first step said nothing until its deadline, or the second after it."""
    accept([draft(room, text)], now=NOW)
    assert expire(now=LATER) == 1
    return Message.objects.get(text=text)


def late(message: Message, action: VerdictAction, *, step: str = "one") -> Decision:
    content = Content(text="clean") if action is VerdictAction.REPLACE else None
    verdict = Verdict(action=action, content=content, reason="late", code=42213)
    return Decision(message=message.pk, awaiting=f"obedient:{step}", verdict=verdict)


def standing(message: Message) -> tuple[str, str | None, str]:
    message.refresh_from_db()
    return message.status, message.text, MessageAction(message.action).label


@pytest.mark.parametrize(
    ("at_deadline", "verdict", "after", "end"),
    [
        ("open", VerdictAction.PUBLISH, ("published", "defer open", "created"), None),
        ("open", VerdictAction.REPLACE, ("published", "clean", "edited"), "edited"),
        ("open", VerdictAction.REJECT, ("published", None, "deleted"), "retracted"),
        ("open", VerdictAction.HOLD, ("published", None, "deleted"), "retracted"),
        ("refused", VerdictAction.PUBLISH, ("published", "defer refused", "created"), "restored"),
        ("refused", VerdictAction.REPLACE, ("published", "clean", "created"), "restored"),
        ("refused", VerdictAction.REJECT, ("rejected", "defer refused", "created"), None),
        ("refused", VerdictAction.HOLD, ("held", "defer refused", "created"), "held"),
        ("human", VerdictAction.PUBLISH, ("published", "defer human", "created"), "restored"),
        ("human", VerdictAction.REPLACE, ("published", "clean", "created"), "restored"),
        ("human", VerdictAction.REJECT, ("rejected", "defer human", "created"), "rejected"),
        ("human", VerdictAction.HOLD, ("held", "defer human", "created"), None),
    ],
)
def test_a_late_verdict_makes_of_a_message_what_it_would_have_been(
    room: Room,
    obedient: Obedient,
    told: list[tuple[str, str, str]],
    at_deadline: str,
    verdict: VerdictAction,
    after: tuple[str, str | None, str],
    end: str | None,
) -> None:
    message = past_deadline(room, f"defer {at_deadline}")
    was = Status(message.status)
    room.refresh_from_db()
    told.clear()
    first, second = overrule([late(message, verdict), late(message, verdict)], now=LATER)
    again = overrule([late(message, VerdictAction.REJECT)], now=LATER)

    assert standing(message) == after
    assert first.kind.value == after[0] and second.kind is again[0].kind is OutcomeKind.STALE
    assert [(kind, by) for kind, by, _ in told if kind != "deleted"] == ([(end, "late obedient:one")] if end else [])
    assert list(message.verdicts.order_by("id").values_list("step", flat=True)) == [
        "deadline of obedient:one",
        "late obedient:one",
    ]
    head_before = room.head
    room.refresh_from_db()
    serials = Message.objects.filter(serial__isnull=False).values_list("serial", flat=True)
    assert room.head == max(serials, default=0)
    audience = AUDIENCES[effect_of(STANDINGS[was], verdict, edited_late=False)]
    assert {kind for kind, _, _ in told if kind in set(Ending)} == ({audience.apps} - {""})
    assert (room.head > head_before) == audience.members


def test_a_verdict_in_time_or_of_a_step_that_was_never_late_overrules_nothing(room: Room, obedient: Obedient) -> None:
    accept([draft(room, "defer"), draft(room, "hello", author="bob")], now=NOW)
    waiting, published = Message.objects.order_by("pk")

    outcomes = overrule([late(waiting, VerdictAction.PUBLISH), late(published, VerdictAction.REJECT)], now=NOW)
    assert {outcome.kind for outcome in outcomes} == {OutcomeKind.STALE}
    assert overrule([Decision(message=0, awaiting="x:y", verdict=Verdict(action=VerdictAction.HOLD))], now=NOW)[
        0
    ].kind is (OutcomeKind.UNKNOWN)
    assert (standing(waiting)[0], standing(published)[0]) == (Status.ACCEPTED, Status.PUBLISHED)


def test_what_a_moderator_did_since_stands(room: Room, obedient: Obedient) -> None:
    held, hidden, edited = (past_deadline(room, text) for text in ("defer human", "defer open 1", "defer open 2"))
    decide(
        [
            Decision(
                message=held.pk, awaiting="moderator", verdict=Verdict(action=VerdictAction.PUBLISH), by="moderator m"
            )
        ],
        now=LATER,
    )
    hide([hidden.pk], by="moderator m", now=LATER)
    edit(edited.pk, "as the moderator says", by="moderator m", now=LATER)

    outcomes = overrule([late(message, VerdictAction.REJECT) for message in (held, hidden, edited)], now=LATER)
    assert [outcome.kind for outcome in outcomes] == [OutcomeKind.STALE] * 3
    assert standing(held) == ("published", "defer human", "created")
    assert standing(edited) == ("published", "as the moderator says", "edited")


def test_what_is_restored_is_asked_of_the_reviewers_that_the_deadline_left_out(room: Room, obedient: Obedient) -> None:
    message = past_deadline(room, "defer twice")
    assert standing(message)[0] == Status.REJECTED

    assert overrule([late(message, VerdictAction.PUBLISH)], now=LATER)[0].kind is OutcomeKind.PENDING
    message.refresh_from_db()
    assert (message.status, message.awaiting, message.error_code) == (Status.ACCEPTED, "obedient:two", None)
    decided = decide([late(message, VerdictAction.PUBLISH, step="two")], now=LATER)
    assert decided[0].kind is OutcomeKind.PUBLISHED


def test_a_late_refusal_takes_back_what_waits_for_the_next_step_and_frees_the_line(
    room: Room, obedient: Obedient
) -> None:
    message = past_deadline(room, "defer twice open")
    accept([draft(room, "next")], now=LATER)

    assert overrule([late(message, VerdictAction.REJECT)], now=LATER)[0].kind is OutcomeKind.REJECTED
    assert Message.objects.get(text="next").status == Status.PUBLISHED
    assert decide([late(message, VerdictAction.PUBLISH, step="two")], now=LATER)[0].kind is OutcomeKind.STALE


def test_the_refusal_of_one_late_step_is_not_lost_behind_the_edit_of_another(room: Room, obedient: Obedient) -> None:
    message = past_deadline(room, "defer twice open")
    Message.objects.filter(pk=message.pk).update(at_deadline="publish")
    assert expire(now=LATER + timedelta(seconds=60)) == 1
    assert standing(message)[0] == Status.PUBLISHED

    one, two, three = overrule(
        [
            late(message, VerdictAction.REPLACE),
            late(message, VerdictAction.REJECT, step="two"),
            late(message, VerdictAction.REPLACE, step="two"),
        ],
        now=LATER,
    )
    assert (one.kind, two.kind, three.kind) == (OutcomeKind.PUBLISHED, OutcomeKind.PUBLISHED, OutcomeKind.STALE)
    assert standing(message) == ("published", None, "deleted")
    assert list(message.versions.order_by("serial").values_list("text", flat=True)) == ["defer twice open", "clean"]


@given(
    texts=st.lists(st.sampled_from(["defer open", "defer human", "defer refused", "hi"]), min_size=1, max_size=8),
    verdicts=st.lists(st.tuples(st.integers(0, 7), st.sampled_from(VerdictAction)), max_size=12),
    cuts=st.lists(st.integers(1, 4), min_size=12, max_size=12),
)
@hypothesis_settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_however_late_verdicts_are_batched_each_message_hears_its_first(
    room: Room, obedient: Obedient, texts: list[str], verdicts: list[tuple[int, VerdictAction]], cuts: list[int]
) -> None:
    Message.objects.all().delete()
    accept([draft(room, text) for text in texts], now=NOW)
    expire(now=LATER)
    rows = list(Message.objects.order_by("pk"))
    left = [late(rows[place % len(rows)], action) for place, action in verdicts]
    first: dict[int, VerdictAction] = {}
    for decision in left:
        first.setdefault(decision.message, decision.verdict.action)
    for cut in cuts:
        taken, left = left[:cut], left[cut:]
        overrule(taken, now=LATER)

    ends = {VerdictAction.REJECT: Status.REJECTED, VerdictAction.HOLD: Status.HELD}
    for row, text in zip(rows, texts, strict=True):
        action, was = first.get(row.pk), row.status
        expected = was if action is None or was == Status.PUBLISHED else ends.get(action, Status.PUBLISHED)
        row.refresh_from_db()
        assert row.status == expected
        is_hidden = was == Status.PUBLISHED and text != "hi" and action in ends
        assert (row.action == MessageAction.DELETE) == is_hidden
    room.refresh_from_db()
    serials = list(Message.objects.filter(serial__isnull=False).order_by("serial").values_list("serial", flat=True))
    assert not serials or serials[-1] == room.head
