"""Deciding: in batches as one by one, in a few round trips, and everybody is told how it ended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from rooms.database.statements import Statement
from rooms.log import signals
from rooms.log.content import Content, Draft
from rooms.log.outcomes import OutcomeKind
from rooms.models import Message, Room, Status
from rooms.models import Verdict as Word
from rooms.publishing.accept import accept
from rooms.review import deadlines, decision_queries
from rooms.review.contract import Decision, Verdict, VerdictAction
from rooms.review.deadlines import expire, hasten
from rooms.review.decide import decide
from rooms.review.endings import ReviewEnd
from tests.rooms.conftest import draft
from tests.rooms.reviewers import Obedient

pytestmark = pytest.mark.django_db

NOW = timezone.now()
AUTHORS = ("alice", "bob")
ONE, TWO = "obedient:one", "obedient:two"


def say(message: int, action: VerdictAction, awaiting: str = ONE, by: str = "") -> Decision:
    content = Content(text="clean") if action is VerdictAction.REPLACE else None
    return Decision(message=message, awaiting=awaiting, verdict=Verdict(action=action, content=content), by=by)


# --- Batches ----------------------------------------------------------------------------------------------


def test_a_batch_of_decisions_costs_three_round_trips_however_large_it_is(room: Room, obedient: Obedient) -> None:
    accept([draft(room, f"defer {number}", author=f"{number % 7}") for number in range(200)], now=NOW)
    messages = list(Message.objects.order_by("pk").values_list("pk", flat=True))
    sent: list[int] = []
    together = decision_queries.together

    def counting(statements: Sequence[Statement]) -> list[list[tuple[Any, ...]]]:
        sent.append(len(statements))
        return together(statements)

    with pytest.MonkeyPatch.context() as patch, CaptureQueriesContext(connection) as others:
        patch.setattr(decision_queries, "together", counting)
        decide([say(message, VerdictAction.PUBLISH) for message in messages], now=NOW)

    assert len(sent) == 2
    # The third is the COMMIT; here, inside the test's transaction, a savepoint and its release.
    assert [query["sql"].split()[0] for query in others] == ["SAVEPOINT", "RELEASE"]
    assert Message.objects.filter(status=Status.PUBLISHED).count() == 200


messages_of_two = st.lists(
    st.tuples(st.sampled_from(AUTHORS), st.sampled_from(["defer", "defer twice", "hold", "hi"])), min_size=1, max_size=8
)
# Some are repeats, some await another step, some are about no message at all.
words = st.lists(
    st.tuples(st.integers(0, 8), st.sampled_from(VerdictAction), st.sampled_from([ONE, TWO, "moderator"])), max_size=16
)


# Both steps of one message are decided in one batch: the second reviewer call is over before it is stored.
@example(
    asked=[(AUTHORS[0], "defer twice")],
    said=[(0, VerdictAction.PUBLISH, ONE), (0, VerdictAction.PUBLISH, TWO)],
    cuts=[2] + [1] * 15,
)
@given(asked=messages_of_two, said=words, cuts=st.lists(st.integers(1, 6), min_size=16, max_size=16))
@hypothesis_settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_however_decisions_are_batched_each_message_ends_as_it_would_one_by_one(
    room: Room,
    obedient: Obedient,
    asked: list[tuple[str, str]],
    said: list[tuple[int, VerdictAction, str]],
    cuts: list[int],
) -> None:
    def play(sizes: Sequence[int]) -> tuple[list[bool], list[tuple[Any, ...]], list[list[str]]]:
        Message.objects.all().delete()
        Room.objects.filter(pk=room.pk).update(head=0)
        # The texts tell the messages apart, and what is done with them.
        accept([draft(room, f"{text} {place}", author=author) for place, (author, text) in enumerate(asked)], now=NOW)
        ids = [*Message.objects.order_by("pk").values_list("pk", flat=True), 0]
        left = [say(ids[place % len(ids)], action, awaiting) for place, action, awaiting in said]
        kinds = []
        for size in sizes:
            taken, left = left[:size], left[size:]
            kinds += [one.kind for one in decide(taken, now=NOW)]
        rows = list(Message.objects.order_by("pk"))
        visible = sorted((row for row in rows if row.serial), key=lambda row: row.serial or 0)
        assert [row.serial for row in visible] == list(range(1, len(visible) + 1))
        order = [
            [row.message_id for row in visible if row.client_id == author and not said_by_human(row)]
            for author in AUTHORS
        ]
        places = {row.message_id: str(place) for place, row in enumerate(rows)}
        ends = [(row.status, row.awaiting, row.text) for row in rows]
        counted = [kind not in (OutcomeKind.STALE, OutcomeKind.UNKNOWN) for kind in kinds]
        return counted, ends, [[places[message_id] for message_id in of_author] for of_author in order]

    def said_by_human(row: Message) -> bool:
        return Word.objects.filter(message=row, step="moderator").exists()

    together, alone = play(cuts), play([1] * 16)
    assert together == alone
    for of_author in together[2]:
        assert of_author == sorted(of_author, key=int), "in the order of acceptance"


# --- Waits that end early ---------------------------------------------------------------------------------


def test_the_wait_for_a_step_ends_for_all_who_await_it_and_for_nobody_else(
    room: Room, obedient: Obedient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadlines, "HASTEN_BATCH_MESSAGES", 2)
    accept([draft(room, f"defer {place}", author=f"{place}") for place in range(5)], now=NOW)
    accept([draft(room, "defer twice", author="x")], now=NOW - timedelta(seconds=1))
    decide([say(Message.objects.get(text="defer twice").pk, VerdictAction.PUBLISH)], now=NOW)

    assert hasten(ONE, now=NOW) == 5
    assert hasten(ONE, now=NOW) == 0
    assert expire(now=NOW + timedelta(milliseconds=1)) == 5
    assert set(Message.objects.values_list("status", "awaiting")) == {
        (Status.REJECTED, ""),
        (Status.ACCEPTED, TWO),
    }


# --- What the apps are told -------------------------------------------------------------------------------


@pytest.fixture
def ended() -> Iterator[list[tuple[str, str, str | None, bool]]]:
    """How reviews ended, as the apps hear it: (kind, by, text, whether the message has a serial)."""
    heard: list[tuple[str, str, str | None, bool]] = []

    def hear(sender: object, ended: list[ReviewEnd], **kwargs: object) -> None:
        assert connection.in_atomic_block
        heard.extend((one.ending, one.by, str(one.message.data), one.message.serial is not None) for one in ended)

    signals.reviews_ended.connect(hear)
    yield heard
    signals.reviews_ended.disconnect(hear)


def test_what_is_accepted_is_told_as_its_author_wrote_it(room: Room, obedient: Obedient) -> None:
    heard: list[tuple[int, Draft]] = []

    def hear(sender: object, accepted: list[tuple[int, Draft]], **kwargs: object) -> None:
        heard.extend(accepted)

    signals.messages_accepted.connect(hear)
    try:
        accept([draft(room, text, message_id=text) for text in ("a", "replace", "reject", "defer")], now=NOW)
        accept([draft(room, "a", message_id="a")], now=NOW)
    finally:
        signals.messages_accepted.disconnect(hear)
    assert [submission.content.text for _, submission in heard] == ["a", "replace", "reject", "defer"]
    assert [pk for pk, _ in heard] == list(Message.objects.order_by("pk").values_list("pk", flat=True))


def test_a_review_that_ends_at_once_is_told_and_one_that_nobody_had_a_word_in_is_not(
    room: Room, obedient: Obedient, ended: list[tuple[str, str, str | None, bool]]
) -> None:
    accept([draft(room, text) for text in ("hi", "replace", "reject", "hold", "defer")], now=NOW)
    assert ended == [
        ("published", "obedient", "replaced", True),
        ("rejected", "obedient", "reject", False),
        ("held", "obedient", "hold", False),
    ]
    assert list(Word.objects.order_by("id").values_list("message__text", "step", "action")) == [
        ("replaced", "obedient", "replace"),
        ("reject", "obedient", "reject"),
        ("hold", "obedient", "hold"),
    ]


def test_a_review_ends_when_the_message_is_published_by_whom_it_was_decided(
    room: Room, obedient: Obedient, ended: list[tuple[str, str, str | None, bool]]
) -> None:
    accept([draft(room, text) for text in ("defer 1", "defer 2", "hi", "defer 3")], now=NOW)
    one, two, _, three = Message.objects.order_by("pk").values_list("pk", flat=True)
    decide([say(two, VerdictAction.REPLACE)], now=NOW)
    assert ended == []
    decide([say(one, VerdictAction.PUBLISH), say(three, VerdictAction.HOLD)], now=NOW)
    assert ended == [
        ("published", ONE, "defer 1", True),
        ("held", ONE, "defer 3", False),
        ("published", ONE, "clean", True),
    ]
    decide([say(three, VerdictAction.REJECT, "moderator", by="moderator m")], now=NOW)
    assert ended[3:] == [("rejected", "moderator m", "defer 3", False)]
