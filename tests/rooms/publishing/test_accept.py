"""Accepting: durable, once, in order, and visible exactly when nothing stands in the way."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from msgspec.structs import replace

from rooms.database.statements import Statement
from rooms.log import reading
from rooms.log.amend import hide
from rooms.log.author_queries import read_lines
from rooms.log.content import Content
from rooms.log.outcomes import OutcomeKind
from rooms.models import Message, MessageAction, Room, Status, Verdict
from rooms.publishing import accept_queries
from rooms.publishing.accept import accept
from rooms.review.contract import Decision, VerdictAction
from rooms.review.contract import Verdict as Said
from rooms.review.deadlines import expire
from rooms.review.decide import decide
from tests.rooms.conftest import draft
from tests.rooms.reviewers import Obedient

pytestmark = pytest.mark.django_db

NOW = timezone.now()


def say(
    message: Message, action: VerdictAction, *, awaiting: str = "obedient:one", content: Content | None = None
) -> Decision:
    return Decision(
        message=message.pk, awaiting=awaiting, verdict=Said(action=action, content=content, reason="because")
    )


def published_texts(room: Room) -> list[str | None]:
    return list(
        Message.objects.filter(room=room, serial__isnull=False).order_by("serial").values_list("text", flat=True)
    )


def test_messages_get_gap_free_serials_in_the_order_of_the_batch(room: Room, obedient: Obedient) -> None:
    outcomes = accept([draft(room, text) for text in ("a", "reject", "b", "c")], now=NOW)

    assert [outcome.kind for outcome in outcomes] == ["published", "rejected", "published", "published"]
    assert list(Message.objects.filter(serial__isnull=False).order_by("serial").values_list("text", "serial")) == [
        ("a", 1),
        ("b", 2),
        ("c", 3),
    ]
    room.refresh_from_db()
    assert room.head == 3
    assert outcomes[3].serial == f"{room.epoch}-000000000003"


def test_a_message_id_published_twice_is_one_message_and_gets_the_first_answer(room: Room, obedient: Obedient) -> None:
    first = accept([draft(room, "a", message_id="x")], now=NOW)
    again = accept([draft(room, "other", message_id="x"), draft(room, "b"), draft(room, "c", message_id="x")], now=NOW)

    assert again[0] == again[2] == first[0]
    assert published_texts(room) == ["a", "b"]


def test_the_same_id_twice_in_one_batch_is_one_message(room: Room, obedient: Obedient) -> None:
    outcomes = accept([draft(room, "a", message_id="x"), draft(room, "a", message_id="x")], now=NOW)

    assert outcomes[0] == outcomes[1]
    assert Message.objects.count() == 1


def test_a_repeated_refused_message_is_refused_again_with_the_same_reason(room: Room, obedient: Obedient) -> None:
    first = accept([draft(room, "reject", message_id="x")], now=NOW)[0]
    again = accept([draft(room, "reject", message_id="x")], now=NOW)[0]

    assert first.error is not None and again.error is not None
    assert again.error.as_dict() == first.error.as_dict()
    assert first.error.as_dict()["detail"] == {"why": "test"}


def test_messages_of_one_author_wait_for_the_earlier_one_and_others_do_not(room: Room, obedient: Obedient) -> None:
    kinds = [
        outcome.kind
        for outcome in accept(
            [draft(room, "defer 1"), draft(room, "2"), draft(room, "of bob", author="bob"), draft(room, "3")], now=NOW
        )
    ]

    assert kinds == [OutcomeKind.PENDING, OutcomeKind.PENDING, OutcomeKind.PUBLISHED, OutcomeKind.PENDING]
    decide([say(Message.objects.get(text="defer 1"), VerdictAction.PUBLISH)], now=NOW)
    assert published_texts(room) == ["of bob", "defer 1", "2", "3"]


def test_verdicts_that_come_in_the_wrong_order_publish_in_the_right_one(room: Room, obedient: Obedient) -> None:
    accept([draft(room, "defer 1"), draft(room, "defer 2"), draft(room, "defer 3")], now=NOW)
    one, two, three = Message.objects.order_by("pk")

    assert decide([say(three, VerdictAction.PUBLISH)], now=NOW)[0].kind is OutcomeKind.PENDING
    assert decide([say(two, VerdictAction.PUBLISH)], now=NOW)[0].kind is OutcomeKind.PENDING
    assert published_texts(room) == []
    assert decide([say(one, VerdictAction.REJECT)], now=NOW)[0].kind is OutcomeKind.REJECTED
    assert published_texts(room) == ["defer 2", "defer 3"]


def test_a_verdict_counts_once(room: Room, obedient: Obedient) -> None:
    accept([draft(room, "defer")], now=NOW)
    message = Message.objects.get()

    first, second = decide([say(message, VerdictAction.PUBLISH), say(message, VerdictAction.REJECT)], now=NOW)
    third = decide([say(message, VerdictAction.REJECT)], now=NOW)[0]

    assert (first.kind, second.kind, third.kind) == (OutcomeKind.PUBLISHED, OutcomeKind.STALE, OutcomeKind.STALE)
    assert Verdict.objects.count() == 1


def test_a_replacing_verdict_publishes_its_content(room: Room, obedient: Obedient) -> None:
    accept([draft(room, "defer")], now=NOW)
    decide([say(Message.objects.get(), VerdictAction.REPLACE, content=Content(text="clean"))], now=NOW)

    assert published_texts(room) == ["clean"]


def test_a_second_step_is_asked_after_the_first_and_only_the_last_publishes(room: Room, obedient: Obedient) -> None:
    accept([draft(room, "defer twice")], now=NOW)
    message = Message.objects.get()

    assert decide([say(message, VerdictAction.PUBLISH)], now=NOW)[0].kind is OutcomeKind.PENDING
    assert obedient.deferred[-2:] == [(message.pk, "one"), (message.pk, "two")]
    assert (
        decide([say(message, VerdictAction.PUBLISH, awaiting="obedient:two")], now=NOW)[0].kind is OutcomeKind.PUBLISHED
    )


def test_a_deadline_gives_the_verdict_that_the_step_names(room: Room, obedient: Obedient) -> None:
    accept([draft(room, "defer"), draft(room, "next")], now=NOW)

    assert expire(now=NOW + timedelta(seconds=9)) == 0
    assert expire(now=NOW + timedelta(seconds=11)) == 1
    assert Message.objects.get(text="defer").status == Status.REJECTED
    assert published_texts(room) == ["next"]


def test_a_held_message_lets_the_author_go_on_and_is_published_by_a_moderator(room: Room, obedient: Obedient) -> None:
    held, after = accept([draft(room, "hold"), draft(room, "after")], now=NOW)

    assert (held.kind, after.kind) == (OutcomeKind.HELD, OutcomeKind.PUBLISHED)
    decide([say(Message.objects.get(text="hold"), VerdictAction.PUBLISH, awaiting="moderator")], now=NOW)
    assert published_texts(room) == ["after", "hold"]


def test_hiding_moves_a_message_to_the_end_of_the_log_and_keeps_what_it_said(room: Room, obedient: Obedient) -> None:
    accept([draft(room, "a"), draft(room, "b")], now=NOW)
    message = Message.objects.get(text="a")

    assert hide([message.pk], by="alice", now=NOW) == 1
    assert hide([message.pk], by="alice", now=NOW) == 0
    message.refresh_from_db()
    assert (message.serial, message.created_serial, message.action, message.text) == (3, 1, MessageAction.DELETE, None)
    assert message.versions.get().text == "a"


def test_a_batch_costs_three_round_trips_however_large_it_is(room: Room, obedient: Obedient) -> None:
    sent: list[int] = []
    together = accept_queries.together

    def counting(statements: Sequence[Statement]) -> list[list[tuple[Any, ...]]]:
        sent.append(len(statements))
        return together(statements)

    with pytest.MonkeyPatch.context() as patch, CaptureQueriesContext(connection) as others:
        patch.setattr(accept_queries, "together", counting)
        accept([draft(room, f"{number}") for number in range(200)], now=NOW)

    assert len(sent) == 2
    # The third is the COMMIT; here, inside the test's transaction, a savepoint and its release.
    assert [query["sql"].split()[0] for query in others] == ["SAVEPOINT", "RELEASE"]


def test_data_of_every_kind_survives(room: Room, obedient: Obedient) -> None:
    contents = [
        Content(text="ünïcode \U0001f600", name="n", extras={"headers": {"a": [1, None, True]}}),
        Content(text='{"a":1}', encoding="json"),
        Content(binary=b"\x00\xff"),
        Content(),
    ]
    accept([replace(draft(room, ""), content=content) for content in contents], now=NOW)
    rows, _ = reading.read_history(room, start=None, end=None, after=None, before=None, forwards=True, limit=10)
    assert [row.content for row in rows] == contents


def test_a_verdict_reads_no_more_of_the_author_than_it_may_set_free(room: Room, obedient: Obedient) -> None:
    accept([draft(room, f"defer {place}") for place in range(20)], now=NOW)
    first, second, *_ = Message.objects.order_by("pk")
    author = {(room.pk, first.author)}

    assert read_lines(author, []) == []
    assert [row.id for row in read_lines(author, [first.pk])] == [first.pk]
    assert [row.id for row in read_lines(author, [second.pk])] == []
    assert [row.id for row in read_lines(author, [first.pk, second.pk])] == [first.pk, second.pk]


@given(
    verdicts=st.permutations(range(8)),
    sizes=st.lists(st.integers(1, 4), min_size=8, max_size=8),
    actions=st.lists(
        st.sampled_from([VerdictAction.PUBLISH, VerdictAction.REJECT, VerdictAction.HOLD]), min_size=8, max_size=8
    ),
)
@hypothesis_settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_whatever_the_order_of_verdicts_an_author_is_published_in_the_order_of_acceptance(
    room: Room, obedient: Obedient, verdicts: list[int], sizes: list[int], actions: list[VerdictAction]
) -> None:
    Message.objects.all().delete()
    texts = [f"defer {place}" if place % 3 else f"{place}" for place in range(8)]
    accept([draft(room, text) for text in texts], now=NOW)
    rows = list(Message.objects.order_by("pk"))
    waiting = [rows[place] for place in verdicts if rows[place].text.startswith("defer")]  # type: ignore[union-attr]
    for size in sizes:
        taken, waiting = waiting[:size], waiting[size:]
        decide([say(row, actions[rows.index(row)]) for row in taken], now=NOW)

    refused = {row.text for place, row in enumerate(rows) if place % 3 and actions[place] is not VerdictAction.PUBLISH}
    assert published_texts(room) == [text for text in texts if text not in refused]


def test_a_page_ends_where_its_bytes_do_and_says_that_more_follows(
    room: Room, obedient: Obedient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rooms.log.reading.LOG_PAGE_BYTES", 25)
    accept([draft(room, "x" * 10) for _ in range(5)], now=NOW)

    entries, reaches = reading.read_after(room, 0, 10)
    assert ([found.serial for found in entries], reaches) == ([1, 2, 3], 3)
    entries, reaches = reading.read_after(room, 3, 10)
    assert ([found.serial for found in entries], reaches) == ([4, 5], 5)
    assert reading.read_after(room, 5, 10) == ([], 5)
    assert reading.read_after(room, 1, 2)[1] == 3

    def page(**bounds: int) -> tuple[list[int | None], bool]:
        everything = {"start": None, "end": None, "after": None, "before": None, "forwards": False, "limit": 10}
        rows, more = reading.read_history(room, **(everything | bounds))  # type: ignore[arg-type]
        return [row.created_serial for row in rows], more

    assert page() == ([5, 4, 3], True)
    assert page(before=3) == ([2, 1], False)
    assert page(before=1) == ([], False)
    assert page(limit=2) == ([5, 4], True)
