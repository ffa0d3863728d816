from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from chatsite.swarm.plan import Plan
from rooms.protocol.wire import Format
from tests.patience import PATIENCE

FEW = st.integers(1, 40)


def plan(**changes: Any) -> Plan:
    usual: dict[str, Any] = {
        "url": "http://127.0.0.1:8000",
        "key": "app.key:secret",
        "room": "swarm",
        "run": "test",
        "members": 6,
        "publishers": 2,
        "rate": 250,
        "seconds": 0.2,
        "size": 100,
        "processes": 2,
        "format": Format.JSON,
        "connect_seconds": PATIENCE,
        "settle_seconds": 2,
    }
    return Plan(**usual | changes)


@given(FEW, FEW, FEW, FEW)
def test_processes_share_all_members_and_hold_no_more_than_they_may(
    members: int, processes: int, most: int, rooms: int
) -> None:
    shares = plan(members=members, processes=processes, members_per_process=most, rooms=rooms).member_shares()
    assert [number for share in shares for number in share] == list(range(members))
    assert all(0 < len(share) <= most for share in shares)


@given(FEW, FEW, FEW, st.floats(1, 100_000))
def test_processes_share_all_publishers(publishers: int, processes: int, members: int, rate: float) -> None:
    shares = plan(publishers=publishers, processes=processes, members=members, rate=rate).publisher_shares()
    assert sorted(place for share in shares for place in share) == list(range(publishers))
    assert all(shares) and len(shares) <= processes


@given(FEW, FEW)
def test_each_room_has_a_publisher_and_each_publisher_a_room(publishers: int, rooms: int) -> None:
    spread = plan(publishers=publishers, rooms=rooms)
    found = [spread.rooms_of(publisher) for publisher in range(publishers)]
    assert all(found)
    assert {room for of_publisher in found for room in of_publisher} == set(range(rooms))


@given(FEW, st.data())
def test_as_many_members_read_slowly_as_were_asked_for(members: int, data: st.DataObject) -> None:
    slow = data.draw(st.integers(0, members))
    spread = plan(members=members, slow_readers=slow)
    assert sum(spread.is_slow(member) for member in range(members)) == slow


def test_one_room_keeps_its_name_and_several_are_numbered() -> None:
    assert plan().room_name(0) == "swarm"
    assert [plan(rooms=2).room_name(room) for room in range(2)] == ["swarm:1", "swarm:2"]


def test_publishing_alone_uses_all_processes_and_a_few_messages_one() -> None:
    assert len(plan(members=0, processes=2).publisher_shares()) == 2
    assert len(plan(members=5, processes=2).publisher_shares()) == 1
    assert len(plan(members=5, processes=8, publishers=100, rate=10_000).publisher_shares()) == 3
    assert len(plan(members=5, processes=8, publishers=100, rate=10_000, batch=10).publisher_shares()) == 1


def test_only_a_server_on_this_machine_is_reached_from_several_addresses() -> None:
    assert len({*plan().sources(0), *plan().sources(1)}) == 8
    assert plan(url="https://chat.example").sources(0) == []
    assert plan(url="https://chat.example").address == ("chat.example", 443)
