"""The accepting transaction against a model of it, and what it reads of large rooms."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from django.db import connection
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moderation import word_rules
from moderation.models import WordRule
from rooms.log.outcomes import Outcome
from rooms.models import Message, Room
from rooms.publishing.accept import accept
from tests.rooms.conftest import draft
from tests.rooms.reviewers import Obedient

pytestmark = pytest.mark.django_db

NOW = timezone.now()
Asked = tuple[int, str, str, str]  # the place of the room, message id, author, text


@dataclass
class Model:
    """What accepting is, said slowly: one message after the other."""

    heads: dict[int, int] = field(default_factory=dict)
    first: dict[tuple[int, str], tuple[str, int | None]] = field(default_factory=dict)
    busy: set[tuple[int, str]] = field(default_factory=set)

    def accept(self, asked: Asked) -> tuple[str, int | None]:
        room, message_id, author, text = asked
        key = (room, message_id)
        if key not in self.first:
            self.first[key] = self._decide(room, author, text)
        return self.first[key]

    def _decide(self, room: int, author: str, text: str) -> tuple[str, int | None]:
        if text in ("reject", "hold"):
            return {"reject": "rejected", "hold": "held"}[text], None
        if text == "defer" or (room, author) in self.busy:
            self.busy.add((room, author))
            return "pending", None
        self.heads[room] = self.heads.get(room, 0) + 1
        return "published", self.heads[room]


def position(outcome: Outcome) -> int | None:
    return int(outcome.serial.rpartition("-")[2]) if outcome.serial else None


asked = st.tuples(
    st.integers(0, 2),
    st.sampled_from([f"id-{number}" for number in range(12)]),
    st.sampled_from(["alice", "bob", "carol"]),
    st.sampled_from(["plain", "plain", "plain", "replace", "reject", "hold", "defer"]),
)


@given(batches=st.lists(st.lists(asked, min_size=1, max_size=8), min_size=1, max_size=5))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_however_it_is_cut_into_batches_accepting_is_one_message_after_the_other(
    db: None, obedient: Obedient, batches: list[list[Asked]]
) -> None:
    Room.objects.all().delete()
    rooms = [Room.objects.create(name=f"room {number}") for number in range(3)]
    model = Model()
    for batch in batches:
        drafts = [draft(rooms[place], text, author=author, message_id=id_) for place, id_, author, text in batch]
        outcomes = accept(drafts, now=NOW)
        assert [(outcome.kind.value, position(outcome)) for outcome in outcomes] == [model.accept(one) for one in batch]
    for place, room in enumerate(rooms):
        room.refresh_from_db()
        serials = (
            Message.objects.filter(room=room, serial__isnull=False).order_by("id").values_list("serial", flat=True)
        )
        assert list(serials) == list(range(1, room.head + 1)) == list(range(1, model.heads.get(place, 0) + 1))


def test_messages_to_a_room_that_is_gone_do_not_stop_those_to_others(room: Room, obedient: Obedient) -> None:
    gone = Room.objects.create(name="gone")
    drafts = [draft(gone, "a"), draft(room, "b"), draft(gone, "c")]
    gone.delete()

    assert [outcome.kind.value for outcome in accept(drafts, now=NOW)] == ["rejected", "published", "rejected"]
    assert [outcome.kind.value for outcome in accept(drafts[:1], now=NOW)] == ["rejected"]


def fill(room: Room, count: int) -> None:
    """Publish messages the quick way: one a second, the last of them now."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO rooms_message (room_id, message_id, author, text, status, action, serial, created_serial, "
            "accepted_at, published_at, awaiting, at_deadline, reason, origin) "
            "SELECT %(room)s, 'filled-' || n, 'client:filler', 'text ' || n, 'published', 0, head + n, head + n, at, "
            "at, '', '', '', '' FROM rooms_room, generate_series(1, %(count)s) AS n, "
            "LATERAL (SELECT %(now)s - (%(count)s - n) * interval '1 second' AS at) AS moment WHERE id = %(room)s",
            {"room": room.pk, "count": count, "now": NOW},
        )
        cursor.execute("UPDATE rooms_room SET head = head + %s WHERE id = %s", [count, room.pk])


class Reads:
    """How many rows and index entries of messages a block read."""

    count = 0


@contextmanager
def reads_of_messages() -> Iterator[Reads]:
    reads = Reads()
    before = _reads()
    yield reads
    reads.count = _reads() - before


def _reads() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT sum(pg_stat_get_xact_tuples_returned(oid)) FROM pg_class WHERE oid = 'rooms_message'::regclass "
            "OR oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = 'rooms_message'::regclass)"
        )
        return int(cursor.fetchone()[0])


@pytest.mark.parametrize("is_analysed", [False, True])
def test_a_plan_that_was_made_for_an_empty_room_does_not_read_a_large_one_whole(
    room: Room, obedient: Obedient, is_analysed: bool
) -> None:
    if is_analysed:  # as autovacuum may do at any moment
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE rooms_message")
    first = accept([draft(room, "first", message_id="first")], now=NOW)
    for number in range(8):  # Postgres keeps a plan from the sixth use on
        accept([draft(room, f"{number}")], now=NOW)
    fill(room, 5_000)
    with reads_of_messages() as reads:
        again = accept([draft(room, "again", message_id="first"), draft(room, "new", author="bob")], now=NOW)

    assert again[0] == first[0]
    assert reads.count <= 10


def test_a_word_rule_counts_for_the_next_batch(room: Room) -> None:
    def publish(text: str) -> str | None:
        (outcome,) = accept([draft(room, text)], now=NOW)
        return Message.objects.get(pk=outcome.message).text

    assert publish("cabbage") == "cabbage"
    rule = WordRule(name="vegetables", pattern="cabbage")
    word_rules.store(rule, by="alice", now=NOW)
    assert publish("cabbage") == "*******"
    word_rules.set_enabled([rule.pk], enabled=False, by="alice", now=NOW)
    assert publish("cabbage") == "cabbage"
