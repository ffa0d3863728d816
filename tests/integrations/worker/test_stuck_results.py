"""One room whose lock somebody keeps: its verdicts wait, those of all other rooms count at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from integrations.models import Attempt, Delivery, WorkerProcess
from integrations.worker import recorder, stuck_results
from rooms.database.threads import run
from rooms.models import Message, Room
from tests.integrations.receiver import Received, Receiver
from tests.integrations.worker.test_worker import decided, until, working
from tests.integrations.world import add_room, add_rule, locked, publish
from tests.patience import PATIENCE

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("valkey", "webhooks_only"),
]


class Answers:
    """Lets a target's answers wait until `given`."""

    def __init__(self, receiver: Receiver) -> None:
        self.given = asyncio.Event()
        receiver.behaviour = self._behave

    async def _behave(self, request: Received) -> Any:
        await self.given.wait()
        if "items" not in request.json:
            return 200, {"action": "accept"}
        return 200, {"verdicts": [{"id": item["id"], "action": "accept"} for item in request.json["items"]]}


def published_in(room: Room, count: int = 1) -> Callable[[], bool]:
    return lambda: Message.objects.filter(room=room, status="published").count() == count


def reported() -> tuple[int, int] | None:
    return WorkerProcess.objects.values_list("stuck_results", "dropped_results").first()


async def rooms() -> tuple[Room, Room]:
    return await run(add_room, "stuck"), await run(add_room, "hall")


async def test_verdicts_on_other_rooms_do_not_wait_for_a_room_that_is_stuck(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    await run(add_rule, receiver.url, when="before", budget_seconds=60)
    answers = Answers(receiver)
    stuck, hall = await rooms()
    async with working() as worker:
        await run(publish, stuck, "a", "b")
        await run(publish, hall, "c")
        await receiver.wait_for(3)
        with locked(stuck):
            answers.given.set()
            await until(published_in(hall))
            monkeypatch.setattr(recorder, "LOCK_SECONDS", 2 * PATIENCE)
            for number in range(2, 5):  # later ones do not wait for the lock at all
                await run(publish, hall, "more")
                await until(published_in(hall, number))
            assert not await run(published_in(stuck, 2))
            assert len(worker.stuck) == 2
        await until(published_in(stuck, 2))
        async with asyncio.timeout(PATIENCE):
            while len(worker.stuck):
                await asyncio.sleep(0.02)
        await run(publish, stuck, "d")
        await until(published_in(stuck, 3))

    assert len(receiver.requests) == 7, "no call was repeated"
    assert set(await run(lambda: list(Delivery.objects.values_list("state", flat=True)))) == {"delivered"}


async def test_late_verdicts_do_not_wait_for_a_room_that_is_stuck(receiver: Receiver) -> None:
    await run(add_rule, receiver.url, when="before", budget_seconds=2, at_deadline="reject", late="apply")
    answers = Answers(receiver)
    stuck, hall = await rooms()
    async with working():
        await run(publish, stuck, "a")
        await run(publish, hall, "b")
        await until(decided)
        with locked(stuck):
            answers.given.set()
            await until(published_in(hall))
            assert not await run(published_in(stuck))
        await until(published_in(stuck))


async def test_a_call_for_several_rooms_is_stored_room_by_room(receiver: Receiver) -> None:
    await run(add_rule, receiver.url, when="before", budget_seconds=60, batched=True)
    answers = Answers(receiver)
    stuck, hall = await rooms()
    await run(publish, stuck, "a")
    await run(publish, hall, "b")
    async with working():
        await receiver.wait_for(1)
        with locked(stuck):
            answers.given.set()
            await until(published_in(hall))
        await until(published_in(stuck))

    assert len(receiver.requests) == 1
    assert await run(lambda: list(Attempt.objects.values_list("events", flat=True))) == [2, 2]


async def test_what_waits_for_stuck_rooms_is_bounded_and_keeps_nobody_from_claiming(
    receiver: Receiver, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stuck_results, "STUCK", 3)
    settings.DELIVERY_CONCURRENCY = 2
    await run(add_rule, receiver.url, when="before", budget_seconds=60)
    answers = Answers(receiver)
    answers.given.set()
    stuck, hall = await rooms()
    await run(publish, stuck, *map(str, range(12)))
    with locked(stuck):
        async with working() as worker:
            await receiver.wait_for(12)
            await run(publish, hall, "a")
            await until(published_in(hall))
            assert (len(worker.stuck), worker.stuck.dropped) == (6, 6)
            await until(lambda: reported() == (6, 6))
            began = time.monotonic()
        assert time.monotonic() - began < PATIENCE  # a worker that is told to stop ends beside a room that is stuck
    assert await run(published_in(stuck, 0))
