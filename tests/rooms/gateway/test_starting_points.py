"""Where members start: exactly where they were, and thousands who come back at once ask Postgres next to nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from rooms.access.capabilities import Capability
from rooms.access.grants import Grant
from rooms.database import threads
from rooms.errors import ChatError, Code
from rooms.fanout.hub import Hub
from rooms.gateway.starting_points import StartingPoint, StartingPoints
from rooms.log.directory import RoomRef
from rooms.protocol import serials
from rooms.protocol.wire import Action, ProtocolMessage
from tests.rooms.fanout.test_hub import resources
from tests.rooms.fanout.test_tail import entry

ROOM = RoomRef(1, "lobby", "abcdefgh")
READER = Grant(client_id=None, capability=Capability.parse({"*": ["*"]}), key_name="app.key")
LISTENER = Grant(client_id=None, capability=Capability.parse({"*": ["subscribe"]}), key_name="app.key")


@dataclass
class Postgres:
    """Answers each question with what is set, and counts them."""

    answers: dict[str, int]
    asked: list[str] = field(default_factory=list)

    async def repeat(self, question: Callable[..., int], *_: Any) -> int:
        self.asked.append(question.__name__)
        answer = self.answers[question.__name__]
        await asyncio.sleep(0)
        return answer


@pytest.fixture
def postgres(monkeypatch: pytest.MonkeyPatch) -> Postgres:
    store = Postgres({"read_head": 20, "read_oldest": 5, "read_rewind": 3})
    monkeypatch.setattr(threads, "repeat", store.repeat)
    return store


def make_hub(position: int = 10) -> Hub:
    return Hub(ROOM, resources(), position=position)


def points() -> StartingPoints:
    return StartingPoints(note_head=lambda hub, head: hub.tail.note_head(head))


def attach(position: int | None = None, **params: str) -> ProtocolMessage:
    serial = None if position is None else serials.encode(ROOM.epoch, position)
    return ProtocolMessage(action=Action.ATTACH, channel="lobby", channel_serial=serial, params=params or None)


async def test_who_names_no_serial_starts_now(postgres: Postgres) -> None:
    assert await points().find(attach(), make_hub(), READER) == StartingPoint(None)
    assert not postgres.asked


async def test_a_resume_that_the_hub_knows_asks_nobody(postgres: Postgres) -> None:
    assert await points().find(attach(7), make_hub(), READER) == StartingPoint(7, resumed=True)
    assert not postgres.asked


async def test_members_that_saw_more_than_this_gateway_ask_once_for_all_how_far_the_room_reaches(
    postgres: Postgres,
) -> None:
    found, hub = points(), make_hub()
    starts = await asyncio.gather(*(found.find(attach(11 + place % 9), hub, READER) for place in range(500)))

    assert [start.after for start in starts] == [11 + place % 9 for place in range(500)]
    assert postgres.asked == ["read_head"]


async def test_a_question_that_is_older_than_the_serial_is_asked_again(postgres: Postgres) -> None:
    found, hub = points(), make_hub()
    postgres.answers["read_head"] = 12
    early = asyncio.create_task(found.find(attach(12), hub, READER))
    while not postgres.asked:
        await asyncio.sleep(0)
    postgres.answers["read_head"] = 13  # published, and seen at another gateway, while the first answer was under way

    assert await found.find(attach(13), hub, READER) == StartingPoint(13, resumed=True)
    assert (await early).resumed
    assert postgres.asked == ["read_head"] * 2


async def test_a_serial_that_no_room_has_is_told_and_not_followed(postgres: Postgres) -> None:
    start = await points().find(attach(21), make_hub(), READER)

    assert start.after is None and not start.resumed
    assert start.error is not None and start.error.code == Code.CONTINUITY_LOST


async def test_without_the_right_to_history_only_what_is_recent_is_resumed(postgres: Postgres) -> None:
    found, hub = points(), make_hub()
    starts = [await found.find(attach(after), hub, LISTENER) for after in (4, 5, 6, 10)]

    assert [start.resumed for start in starts] == [False, True, True, True]
    assert postgres.asked == ["read_oldest"]


async def test_old_messages_in_memory_are_no_more_to_be_resumed_than_those_in_postgres(postgres: Postgres) -> None:
    hub = make_hub(position=0)
    hub.fill([entry(1), entry(2)], 2)  # their time is 0: the seventies

    assert not (await points().find(attach(0), hub, LISTENER)).resumed
    assert (await points().find(attach(2), hub, LISTENER)).resumed


async def test_a_rewind_of_a_count_is_answered_from_memory(postgres: Postgres) -> None:
    hub = make_hub(position=0)
    hub.fill([entry(serial) for serial in range(1, 31)], 30)

    assert [(await points().find(attach(rewind=str(count)), hub, READER)).after for count in (0, 1, 10, 30, 31)] == [
        30,
        29,
        20,
        0,
        0,
    ]
    assert not postgres.asked


async def test_thousands_that_rewind_a_time_ask_once_a_second(postgres: Postgres) -> None:
    found, hub = points(), make_hub()
    starts = await asyncio.gather(*(found.find(attach(rewind="2m"), hub, READER) for _ in range(1000)))

    assert {start.after for start in starts} == {3}
    assert postgres.asked == ["read_rewind"]


async def test_a_rewind_that_is_none_is_refused(postgres: Postgres) -> None:
    with pytest.raises(ChatError) as refused:
        await points().find(attach(rewind="yesterday"), make_hub(), READER)

    assert refused.value.code == Code.INVALID_PARAMETER
