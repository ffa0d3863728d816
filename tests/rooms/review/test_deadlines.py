"""Overdue messages where many look for them at once, and rooms are locked by others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import psycopg
import pytest
from django.db import connection
from django.utils import timezone

from integrations.worker.wakeups import connect_parameters
from rooms.models import Message, Room, Status
from rooms.publishing.accept import accept
from rooms.review import deadlines
from rooms.review.deadlines import expire, hasten
from tests.patience import PATIENCE
from tests.rooms.conftest import draft
from tests.rooms.reviewers import Obedient

pytestmark = pytest.mark.django_db(transaction=True)

NOW = timezone.now()
JUST_OVERDUE = NOW + timedelta(seconds=11)
LONG_OVERDUE = NOW + timedelta(seconds=30)
Result = TypeVar("Result")


@contextmanager
def locked(room: Room) -> Iterator[psycopg.Connection[tuple[int]]]:
    """Hold a room's lock, as a transaction of another process does."""
    with psycopg.connect(**connect_parameters()) as holder:
        holder.execute("SELECT id FROM rooms_room WHERE id = %s FOR NO KEY UPDATE", [room.pk])
        yield holder


def alone(work: Callable[[], Result]) -> Result:
    try:
        return work()
    finally:
        connection.close()


def waiting_in(room: Room, count: int) -> None:
    accept([draft(room, f"defer {number}", author=f"{number % 7}") for number in range(count)], now=NOW)


def test_who_looks_at_once_does_not_do_the_same_messages(obedient: Obedient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "EXPIRE_BATCH_MESSAGES", 50)
    room = Room.objects.create(name="lobby")
    waiting_in(room, 50)

    with ThreadPoolExecutor(max_workers=3) as threads, locked(room) as another:
        others = [threads.submit(alone, lambda: expire(now=JUST_OVERDUE)) for _ in range(3)]
        time.sleep(0.3)
        another.rollback()
        found = [one.result(timeout=PATIENCE) for one in others]

    assert sum(found) + expire(now=JUST_OVERDUE) == 50
    assert not Message.objects.filter(status=Status.ACCEPTED).exists()


def test_a_room_that_is_locked_keeps_no_other_waiting(obedient: Obedient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "EXPIRE_BATCH_MESSAGES", 20)
    stuck, free = Room.objects.create(name="stuck"), Room.objects.create(name="free")
    waiting_in(stuck, 30)
    waiting_in(free, 10)

    with ThreadPoolExecutor(max_workers=1) as threads, locked(stuck):
        assert threads.submit(alone, lambda: expire(now=LONG_OVERDUE)).result(timeout=PATIENCE) == 10

    assert set(Message.objects.filter(status=Status.ACCEPTED).values_list("room", flat=True)) == {stuck.pk}
    assert expire(now=LONG_OVERDUE) + expire(now=LONG_OVERDUE) == 30


def test_a_room_that_is_always_busy_gets_its_turn(obedient: Obedient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "LOCK_SECONDS", PATIENCE)
    busy = Room.objects.create(name="busy")
    waiting_in(busy, 5)

    with ThreadPoolExecutor(max_workers=1) as threads, locked(busy) as another:
        expiring = threads.submit(alone, lambda: expire(now=LONG_OVERDUE))
        time.sleep(0.3)  # nobody would find the room free in this time
        another.rollback()
        assert expiring.result(timeout=PATIENCE) == 5


def test_waits_in_a_room_that_is_locked_keep_their_deadline_and_no_other_waits_for_them(obedient: Obedient) -> None:
    stuck, free = Room.objects.create(name="stuck"), Room.objects.create(name="free")
    waiting_in(stuck, 3)
    waiting_in(free, 2)

    with ThreadPoolExecutor(max_workers=1) as threads, locked(stuck):
        assert threads.submit(alone, lambda: hasten("obedient:one", now=NOW)).result(timeout=PATIENCE) == 2

    assert expire(now=NOW + timedelta(milliseconds=1)) == 2
    assert expire(now=LONG_OVERDUE) == 3
