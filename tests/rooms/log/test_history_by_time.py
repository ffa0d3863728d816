"""History between two moments: exactly what was published then, without reading the rest of the room."""

from __future__ import annotations

from datetime import timedelta
from itertools import product

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rooms.log import reading
from rooms.models import Message, Room
from tests.rooms.publishing.test_accept_queries import NOW, fill, reads_of_messages

pytestmark = pytest.mark.django_db

LENGTH = 20_000  # messages, one a second
PAGE = 100
# Two searches, and on each side of what is asked for the time that the order may be wrong by.
MOST_READS = 2 * PAGE + 4 * 20 + 4 * int(reading.TIME_DISORDER.total_seconds())


@pytest.fixture
def long_room(room: Room) -> Room:
    """A room of LENGTH messages beside many short ones, with the statistics that autovacuum gathers."""
    fill(room, LENGTH)
    for number in range(50):
        fill(Room.objects.create(name=f"short {number}"), 100)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE rooms_message")
    return room


def test_a_page_between_moments_does_not_read_the_room(long_room: Room) -> None:
    spans = [(5.6, 5.5), (4, 1), (2, None), (None, 2), (None, 6), (-1, None)]
    for hours, forwards in product(spans, (True, False)):
        start, end = (None if hour is None else NOW - timedelta(hours=hour) for hour in hours)
        with reads_of_messages() as reads:
            reading.read_history(
                long_room, start=start, end=end, after=None, before=None, forwards=forwards, limit=PAGE
            )
        assert reads.count <= MOST_READS, (hours, forwards)


def test_the_place_of_a_moment_is_found_without_reading_the_room(long_room: Room) -> None:
    with reads_of_messages() as reads:
        found = reading.read_before_time(long_room, NOW - timedelta(hours=3), after=0)

    assert found == LENGTH - 3 * 3600 - 1
    assert reads.count <= MOST_READS


@given(
    steps=st.lists(st.tuples(st.integers(0, 90), st.integers(-29, 29), st.integers(1, 3)), max_size=25),
    bounds=st.tuples(*[st.none() | st.integers(-100, 1500)] * 2),
    forwards=st.booleans(),
)
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_history_between_moments_is_all_that_was_published_between_them(
    room: Room, steps: list[tuple[int, int, int]], bounds: tuple[int | None, int | None], forwards: bool
) -> None:
    Message.objects.all().delete()
    serial, second, published = 0, 0, []
    for pause, disorder, gap in steps:  # messages may be gone, and clocks may disagree
        serial, second = serial + gap, second + pause
        moment = NOW + timedelta(seconds=second + disorder)
        published.append(
            Message(
                room=room, message_id=f"m{serial}", author="a", status="published", serial=serial,
                created_serial=serial, accepted_at=moment, published_at=moment,
            )
        )  # fmt: skip
    Message.objects.bulk_create(published)
    Room.objects.filter(pk=room.pk).update(head=serial)
    start, end = (None if bound is None else NOW + timedelta(seconds=bound) for bound in bounds)

    rows, more = reading.read_history(
        room, start=start, end=end, after=None, before=None, forwards=forwards, limit=len(published) + 1
    )
    wanted = [
        message.serial
        for message in published
        if (start is None or message.published_at >= start) and (end is None or message.published_at <= end)
    ]
    assert [row.serial for row in rows] == (wanted if forwards else wanted[::-1])
    assert not more
    if start is not None:
        earlier = [message.serial for message in published if message.published_at < start]
        assert reading.read_before_time(room, start, after=0) == max(earlier, default=0)
