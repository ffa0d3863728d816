"""One room whose lock somebody keeps: its publishes wait, all others do not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import psycopg
import pytest
from asgiref.sync import sync_to_async

from integrations.worker.wakeups import connect_parameters
from rooms.database import threads
from rooms.errors import ChatError, Code
from rooms.log import announce
from rooms.log.content import Draft
from rooms.models import Message, Room
from rooms.publishing import stuck_rooms
from rooms.publishing.acceptor import Acceptor
from tests.patience import PATIENCE
from tests.rooms.conftest import draft
from tests.rooms.reviewers import Obedient

pytestmark = pytest.mark.django_db(transaction=True)


class Holder:
    """A transaction that takes rooms' locks and does not end."""

    def __init__(self) -> None:
        self._connection = psycopg.connect(**connect_parameters())

    def lock(self, *rooms: Room) -> None:
        for room in rooms:
            self._connection.execute("SELECT FROM rooms_room WHERE id = %s FOR NO KEY UPDATE", [room.pk])

    def release(self) -> None:
        self._connection.rollback()

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def holder(transactional_db: None) -> Iterator[Holder]:
    holder = Holder()
    yield holder
    holder.close()


@pytest.fixture
async def acceptor(obedient: Obedient, holder: Holder, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Acceptor]:
    async def tell_nobody(entries: Sequence[Any], news: Sequence[Any]) -> None:
        pass

    monkeypatch.setattr(announce, "send", tell_nobody)
    acceptor = Acceptor()
    yield acceptor
    holder.release()
    await acceptor.close()


async def make(*names: str) -> list[Room]:
    return [await sync_to_async(Room.objects.create)(name=name) for name in names]


async def published(future: asyncio.Future[Any]) -> list[str]:
    return [outcome.kind.value for outcome in await asyncio.wait_for(future, PATIENCE)]


async def test_publishes_into_other_rooms_do_not_wait_for_a_room_that_is_stuck(
    acceptor: Acceptor, holder: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, *others = await make("stuck", "hall", "garden")
    holder.lock(stuck)
    waiting = [acceptor.submit([draft(stuck, f"{number}")]) for number in range(3)]
    mixed = [acceptor.submit([draft(room, "hello")]) for room in others for _ in range(5)]

    assert [await published(future) for future in mixed] == [["published"]] * 10
    assert len(acceptor.stuck) == 1 and acceptor.stuck.waiting == 3
    monkeypatch.setattr("rooms.publishing.acceptor.LOCK_SECONDS", 2 * PATIENCE)
    for _ in range(5):  # later ones do not wait for the lock at all
        waiting.append(acceptor.submit([draft(stuck, f"{len(waiting)}")]))
        assert await published(acceptor.submit([draft(others[0], "more")])) == ["published"]
    assert not any(future.done() for future in waiting)

    holder.release()
    assert [await published(future) for future in waiting] == [["published"]] * 8
    texts = await threads.run(
        lambda: list(Message.objects.filter(room=stuck).order_by("serial").values_list("text", flat=True))
    )
    assert texts == [f"{number}" for number in range(8)]
    assert (len(acceptor.stuck), acceptor.stuck.waiting, acceptor.waiting_bytes) == (0, 0, 0)


async def test_rooms_that_are_stuck_at_once_are_all_found_and_none_waits_for_another(
    acceptor: Acceptor, holder: Holder
) -> None:
    *stuck, free = await make(*(f"stuck {number}" for number in range(stuck_rooms.MAX_THREADS + 2)), "free")
    holder.lock(*stuck)
    waiting = [acceptor.submit([draft(room, f"{number}")]) for number in range(3) for room in stuck]

    assert await published(acceptor.submit([draft(free, "hello")])) == ["published"]
    assert len(acceptor.stuck) == len(stuck)
    holder.release()
    assert [await published(future) for future in waiting] == [["published"]] * len(waiting)
    for room in stuck:
        texts = await threads.run(
            lambda room=room: list(Message.objects.filter(room=room).order_by("serial").values_list("text", flat=True))
        )
        assert texts == ["0", "1", "2"]


async def test_a_publish_into_a_stuck_room_is_refused_when_its_time_is_over(
    acceptor: Acceptor, holder: Holder, settings: Any
) -> None:
    settings.ACCEPT_RETRY_SECONDS = 1.5
    (stuck,) = await make("stuck")
    holder.lock(stuck)
    with pytest.raises(ChatError) as refused:
        await asyncio.wait_for(acceptor.submit([draft(stuck, "hello")]), PATIENCE)

    assert (refused.value.code, refused.value.status) == (Code.TIMEOUT, 503)
    assert (acceptor.stuck.refused, acceptor.stuck.waiting, acceptor.waiting_bytes) == (1, 0, 0)
    holder.release()
    assert await published(acceptor.submit([draft(stuck, "hello again")])) == ["published"]


async def test_what_waits_for_stuck_rooms_is_bounded(acceptor: Acceptor, holder: Holder, settings: Any) -> None:
    settings.ACCEPT_QUEUE_MESSAGES = 12
    stuck, free = await make("stuck", "free")
    holder.lock(stuck)
    waiting: list[asyncio.Future[Any]] = [acceptor.submit([draft(stuck, f"{number}")]) for number in range(3)]
    assert await published(acceptor.submit([draft(free, "hello")])) == ["published"]
    with pytest.raises(ChatError) as refused:
        await asyncio.wait_for(acceptor.submit([draft(stuck, "one more")]), PATIENCE)

    assert refused.value.code == Code.TOO_MANY_PUBLISHES
    holder.release()
    assert [await published(future) for future in waiting] == [["published"]] * 3


async def test_a_lock_that_is_held_as_long_as_a_busy_room_s_makes_no_room_stuck(
    acceptor: Acceptor, holder: Holder, caplog: pytest.LogCaptureFixture
) -> None:
    (busy,) = await make("busy")

    async def publish(number: int) -> list[str]:
        drafts: list[Draft] = [draft(busy, f"{number}")]
        return await published(acceptor.submit(drafts))

    with caplog.at_level(logging.WARNING):
        for number in range(5):
            await asyncio.to_thread(holder.lock, busy)
            publishing = asyncio.create_task(publish(number))
            await asyncio.sleep(0.2)
            holder.release()
            assert await publishing == ["published"]
    assert not caplog.records
