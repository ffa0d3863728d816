"""The async door of accepting: what a batch shares with its neighbours, and what it does not."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError

from rooms.database import threads
from rooms.errors import ChatError, Code
from rooms.log import announce
from rooms.log.content import Draft
from rooms.models import Message, Room
from rooms.publishing.acceptor import Acceptor
from tests.patience import PATIENCE
from tests.rooms.conftest import draft
from tests.rooms.reviewers import Obedient

pytestmark = pytest.mark.django_db(transaction=True)

UNSTORABLE = "a\0b"  # Postgres has no such character; publishing refuses it, so only a mistake of ours brings it here


@pytest.fixture
async def acceptor(obedient: Obedient, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Acceptor]:
    async def tell_nobody(entries: Sequence[Any], news: Sequence[Any]) -> None:
        pass

    monkeypatch.setattr(announce, "send", tell_nobody)
    acceptor = Acceptor()
    yield acceptor
    await acceptor.close()


async def make_room() -> Room:
    return await sync_to_async(Room.objects.create)(name="lobby")


async def kinds_of(acceptor: Acceptor, *publishes: Sequence[Draft]) -> list[list[str]]:
    futures = [acceptor.submit(drafts) for drafts in publishes]
    return [[outcome.kind.value for outcome in await future] for future in futures]


async def test_a_publish_that_cannot_be_stored_is_refused_whole_and_its_neighbours_are_not(acceptor: Acceptor) -> None:
    room = await make_room()
    publishes = [[draft(room, f"{number}")] for number in range(9)]
    publishes[4] = [draft(room, "beside it"), draft(room, UNSTORABLE)]

    assert await kinds_of(acceptor, *publishes) == [
        ["rejected"] * 2 if place == 4 else ["published"] for place in range(9)
    ]
    texts = await threads.run(lambda: list(Message.objects.order_by("serial").values_list("text", "serial")))
    assert texts == [(f"{number}", place) for place, number in enumerate([0, 1, 2, 3, 5, 6, 7, 8], start=1)]


async def test_while_postgres_is_away_a_publish_is_refused_as_one_to_be_made_again(
    acceptor: Acceptor, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*args: Any, **options: Any) -> Any:
        raise OperationalError

    settings.ACCEPT_RETRY_SECONDS = 0
    monkeypatch.setattr("rooms.publishing.acceptor.accept", away)
    with pytest.raises(ChatError) as refused:
        await acceptor.submit([draft(Room(id=1, name="lobby"), "a")])

    assert (refused.value.code, refused.value.status) == (Code.UNAVAILABLE, 503)


async def test_a_publish_is_one_transaction_s_even_where_it_is_more_than_a_batch(
    acceptor: Acceptor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rooms.publishing.acceptor.ACCEPT_BATCH_MESSAGES", 3)
    room, small = await make_room(), Acceptor()

    assert await kinds_of(small, [draft(room, f"{number}") for number in range(7)]) == [["published"] * 7]
    assert (small.batches, small.accepted, small.waiting, small.waiting_bytes) == (1, 7, 0, 0)


async def test_messages_are_accepted_without_prepared_statements_too(acceptor: Acceptor, settings: Any) -> None:
    settings.DATABASE_PREPARE = False
    room = await make_room()

    assert await kinds_of(acceptor, [draft(room, "a", message_id="x")], [draft(room, "b", message_id="x")]) == [
        ["published"],
        ["published"],
    ]
    assert await threads.run(Message.objects.count) == 1


async def test_a_closed_acceptor_keeps_no_thread(acceptor: Acceptor) -> None:
    room, others = await make_room(), set(threading.enumerate())
    assert await kinds_of(acceptor, [draft(room, "a")]) == [["published"]]
    threads = [thread for thread in set(threading.enumerate()) - others if thread.name.startswith("accept")]
    assert threads
    await acceptor.close()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
