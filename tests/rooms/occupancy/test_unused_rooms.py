"""Rooms that only attaches made: bounded, gone with their last member, and never missing to who publishes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from django.utils import timezone

from integrations.worker.wakeups import connect_parameters
from rooms.access.capabilities import Capability
from rooms.access.grants import Grant
from rooms.connection.attachments import Maker, maker_of
from rooms.errors import ChatError, Code
from rooms.fanout.healing import Healer
from rooms.fanout.hub import Hub
from rooms.gateway.gateway import Gateway
from rooms.log import announce, directory
from rooms.log.directory import Directory, RoomRef, find, find_or_make
from rooms.models import GatewayProcess, Message, Room
from rooms.occupancy import store
from rooms.occupancy.counts import Metrics
from rooms.occupancy.unused_rooms import sweep
from rooms.publishing.accept import accept
from rooms.publishing.acceptor import Acceptor
from tests.rooms.conftest import draft
from tests.rooms.fanout.test_hub import resources
from tests.rooms.reviewers import Obedient

pytestmark = pytest.mark.django_db(transaction=True)

READER = Maker("client:mallory", 3)
ONE = Metrics(connections=1)


def pass_time(seconds: float = 100.0) -> None:
    """Let so much time have passed for rooms and gateways."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE rooms_room SET unused_after = unused_after - make_interval(secs => %s)", [seconds])
        cursor.execute(
            "UPDATE rooms_gatewayprocess SET started_at = started_at - make_interval(secs => %(past)s), "
            "seen_at = seen_at - make_interval(secs => %(past)s)",
            {"past": seconds},
        )


def names() -> list[str]:
    return list(Room.objects.order_by("name").values_list("name", flat=True))


def test_a_room_that_only_an_attach_made_goes_when_nobody_is_in_it() -> None:
    find_or_make("quiet", READER)
    assert sweep() == 0 and names() == ["quiet"], "its member may be on the way"
    pass_time()
    assert sweep() == 1 and names() == []


def test_a_room_goes_after_its_last_member_though_that_member_s_gateway_was_killed() -> None:
    room = find_or_make("quiet", READER)
    gateway = store.register("s", connections_max=9)
    store.beat(gateway, 1, [(room.id, ONE)])
    pass_time(61)
    store.beat(gateway, 1, [])
    assert sweep() == 0 and names() == ["quiet"]
    pass_time(100_000)  # the gateway says nothing any more
    store.forget_silent()
    assert not GatewayProcess.objects.exists()
    assert sweep() == 1 and names() == []


def test_while_a_gateway_is_new_nothing_is_removed() -> None:
    find_or_make("quiet", READER)
    pass_time()
    store.register("s", connections_max=9)
    assert sweep() == 0 and names() == ["quiet"]


def test_rooms_with_a_message_a_title_or_a_place_on_the_page_stay(obedient: Obedient) -> None:
    for name in ("published", "refused", "held", "titled", "listed", "empty"):
        find_or_make(name, READER if name == "empty" else Maker("client:bob", None))
    rooms = {room.name: room for room in Room.objects.all()}
    for name, text in (("published", "hello"), ("refused", "reject"), ("held", "hold")):
        accept([draft(rooms[name], text)], now=timezone.now())
    Room.objects.filter(name="titled").update(title="A title")
    Room.objects.filter(name="listed").update(listed=True)
    Room.objects.create(name="made in the admin")
    pass_time()

    assert sweep() == 1
    assert names() == ["held", "listed", "made in the admin", "published", "refused", "titled"]
    assert not Room.objects.filter(unused_after__isnull=False).exists()


def test_a_room_into_which_somebody_publishes_just_now_is_passed_over() -> None:
    room = find_or_make("busy", READER)
    pass_time()
    with psycopg.connect(**connect_parameters()) as publisher:
        publisher.execute("SELECT FROM rooms_room WHERE id = %s FOR NO KEY UPDATE", [room.id])
        assert sweep() == 0
    assert sweep() == 1


def test_who_may_not_publish_makes_a_bounded_number_of_rooms(obedient: Obedient) -> None:
    for number in range(3):
        find_or_make(f"room {number}", READER)
    with pytest.raises(ChatError) as refused:
        find_or_make("one more", READER)
    assert refused.value.code == Code.TOO_MANY_ROOMS
    assert find_or_make("room 1", READER).name == "room 1"
    assert find_or_make("another's", Maker("client:bob", 3)).may_go

    accept([draft(Room.objects.get(name="room 0"), "hello")], now=timezone.now())
    pass_time()
    assert sweep() == 3
    assert find_or_make("one more", READER).name == "one more"


@pytest.mark.parametrize(
    ("client_id", "operations", "maker"),
    [
        ("alice", ["subscribe"], Maker("key:app.key/client:alice", 500)),
        ("alice", ["subscribe", "publish"], Maker("key:app.key/client:alice", None)),
        (None, ["subscribe"], Maker("key:app.key", 5000)),
        ("*", ["subscribe"], Maker("key:app.key", 5000)),
    ],
)
def test_rooms_are_counted_by_client_and_those_of_anonymous_ones_by_key(
    client_id: str | None, operations: list[str], maker: Maker
) -> None:
    grant = Grant(client_id=client_id, capability=Capability.parse({"*": operations}), key_name="app.key")
    assert maker_of(grant, "room") == maker


# --- Who comes when a room was removed -----------------------------------------------------------------------


@pytest.fixture
async def rooms() -> Directory:
    return Directory(has_waiting_members=lambda room_id: True)


@pytest.fixture
async def acceptor(obedient: Obedient, rooms: Directory, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Acceptor]:
    async def tell_nobody(entries: Sequence[Any], news: Sequence[Any]) -> None:
        pass

    monkeypatch.setattr(announce, "send", tell_nobody)
    acceptor = Acceptor(make_again=rooms.make_again)
    yield acceptor
    await acceptor.close()


async def remove_unused() -> None:
    await sync_to_async(pass_time)()
    await sync_to_async(sweep)()


def into(room: RoomRef, text: str) -> Any:
    return draft(Room(id=room.id, name=room.name), text)


async def test_a_publish_into_a_room_that_was_just_removed_makes_it_again_as_it_was(
    acceptor: Acceptor, rooms: Directory
) -> None:
    known = await rooms.get("lobby", READER)
    other = await sync_to_async(Room.objects.create)(name="other")
    await remove_unused()
    assert await sync_to_async(names)() == ["other"]
    publishes = [[into(known, "a"), into(known, "b")], [draft(other, "x")], [into(known, "c")]]
    outcomes = [await future for future in [acceptor.submit(drafts) for drafts in publishes]]

    assert [one.kind.value for of_publish in outcomes for one in of_publish] == ["published"] * 4
    assert await sync_to_async(find)("lobby") == known
    texts = await sync_to_async(
        lambda: list(Message.objects.filter(room_id=known.id).order_by("serial").values_list("text", "serial"))
    )()
    assert texts == [("a", 1), ("b", 2), ("c", 3)]
    await remove_unused()
    assert await sync_to_async(names)() == ["lobby", "other"]


async def test_where_another_gateway_made_the_room_anew_a_publish_goes_into_that_one(
    acceptor: Acceptor, rooms: Directory
) -> None:
    known = await rooms.get("lobby", READER)
    await remove_unused()
    anew = await Directory().get("lobby", READER)
    assert anew.id != known.id
    (outcome,) = await acceptor.submit([into(known, "a")])

    assert outcome.kind.value == "published"
    assert await rooms.get("lobby") == anew
    assert await sync_to_async(Message.objects.filter(room_id=anew.id).count)() == 1


def test_a_room_that_another_made_meanwhile_is_that_room(monkeypatch: pytest.MonkeyPatch) -> None:
    made = find_or_make("lobby")
    looks = iter([None, made])
    monkeypatch.setattr(directory, "find", lambda name: next(looks))
    assert find_or_make("lobby") == made
    assert names() == ["lobby"]


async def test_who_enters_a_room_holds_it_first_and_learns_that_it_is_gone() -> None:
    room = await sync_to_async(find_or_make)("lobby", READER)
    await sync_to_async(pass_time)()
    assert await sync_to_async(directory.hold)(room.id)
    assert await sync_to_async(sweep)() == 0
    await remove_unused()
    assert not await sync_to_async(directory.hold)(room.id)


async def test_a_room_that_is_gone_under_its_members_is_made_again() -> None:
    room = await sync_to_async(find_or_make)("lobby", READER)
    hub = Hub(room, resources(), position=0)
    hubs = {room.id: hub}
    await remove_unused()
    await Healer(hubs).heal_all()
    assert await sync_to_async(names)() == [], "nobody is in it"

    class Occupied(Hub):
        members = 1  # type: ignore[assignment]

    hubs[room.id] = Occupied(room, resources(), position=0)
    await Healer(hubs).heal_all()
    assert await sync_to_async(find)("lobby") == room


async def test_a_hub_that_nobody_is_in_is_entered_only_while_its_room_is_there() -> None:
    here = Gateway()
    try:
        room = await here.directory.get("lobby", READER)
        await here.hub(room)
        await remove_unused()
        with pytest.raises(ChatError) as gone:
            await here.hub(room)
        assert gone.value.code == Code.NOT_FOUND
        again = await here.directory.get("lobby", READER)
        assert (await here.hub(again)).room.id == again.id != room.id
        assert (here.directory.made, here.directory.refused) == (2, 0)
    finally:
        await here.close()


async def test_asking_makes_no_room(rooms: Directory) -> None:
    assert await rooms.find("nowhere") is None
    assert await sync_to_async(store.read_room)("nowhere", None) == (None, Metrics())
    assert await sync_to_async(names)() == []


def test_keeping_a_room_until_later_is_for_rooms_that_may_go() -> None:
    room, stays = find_or_make("lobby", READER), Room.objects.create(name="stays")
    directory.keep_until([room.id, stays.pk], timezone.now() + timedelta(days=9))
    pass_time(86_400)
    assert sweep() == 0
    stays.refresh_from_db()
    assert stays.unused_after is None


async def test_a_room_that_somebody_deleted_with_its_messages_is_another_one_when_it_is_made_again() -> None:
    """What this process read of it is old: messages may have come since, and their serials must not come twice."""
    rooms = Directory()
    before = await rooms.get("lobby", READER)
    await sync_to_async(Room.objects.filter(pk=before.id).delete)()
    again = await rooms.make_again("lobby")
    assert before.may_go and (again.id != before.id) and (again.epoch != before.epoch)


async def test_a_history_is_read_from_the_room_that_is_there_now() -> None:
    rooms = Directory()
    before = await rooms.get("lobby", READER)
    await sync_to_async(Room.objects.filter(pk=before.id).delete)()
    anew = await Directory().get("lobby")  # another gateway
    assert await rooms.find("lobby") == anew
