"""Who asked is told of changes, each reader at its own place, and costs the others nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rooms.fanout.hub import Member
from rooms.fanout.sockets import ENCODINGS, Framing
from rooms.log.directory import RoomRef
from rooms.occupancy.counts import NOBODY, Metrics, part_of
from rooms.occupancy.subscribers import SLICE_SUBSCRIBERS, OccupancySubscriber, OccupancySubscribers
from rooms.protocol.wire import Format
from tests.rooms.fanout.test_hub import Peer

ROOM, OTHER = RoomRef(1, "lobby", "abcdefgh"), RoomRef(2, "hall", "ijklmnop")
JSON = ENCODINGS[Format.JSON, Framing.PLAIN]


def member(position: int = 0) -> tuple[Member, Peer]:
    peer = Peer()
    made = Member(socket=peer, encoding=JSON, connection_id="c", echo=True, discontinue=lambda position: None)
    made.position = position
    return made, peer


def told(peer: Peer) -> list[dict[str, int]]:
    """What a peer was told, from the first."""
    messages = [json.loads(piece)["messages"][0] for batch in peer.batches for piece in batch]
    return [json.loads(message["data"])["metrics"] for message in messages]


def deliver(subscribers: OccupancySubscribers, limit: int = 10_000) -> int:
    """Deliver once and return in how many slices."""
    return sum(1 for _ in subscribers.deliver(limit))


def count(connections: int, *, publishers: int = 0) -> Metrics:
    return NOBODY._replace(connections=connections, publishers=publishers)


def test_a_change_is_told_once_and_no_change_is_not_told() -> None:
    subscribers, (one, peer) = OccupancySubscribers("s", limit=9), member()
    subscribers.add(ROOM, one, "metrics.connections")
    for metrics in (count(1), count(1), count(2), count(2, publishers=1)):
        subscribers.update([(ROOM.id, metrics)])
        deliver(subscribers)
    assert told(peer) == [{"connections": 1}, {"connections": 2}]


def test_a_frame_is_shared_and_moves_nobody() -> None:
    subscribers = OccupancySubscribers("s", limit=9)
    (here, near), (also, twin), (behind, far) = member(7), member(7), member(3)
    for one in (here, also, behind):
        subscribers.add(ROOM, one, "metrics")
    subscribers.update([(ROOM.id, count(3))])
    deliver(subscribers)
    assert near.batches[0] is twin.batches[0]
    assert near.got == [7]
    assert far.got == [3]


def test_whoever_has_something_unsent_is_told_what_holds_once_it_has_read() -> None:
    subscribers, (one, peer), (other, quick) = OccupancySubscribers("s", limit=9), member(), member()
    peer.writable = False
    subscribers.add(ROOM, one, "metrics.connections")
    subscribers.add(ROOM, other, "metrics.connections")
    for connections in (1, 2, 3):
        subscribers.update([(ROOM.id, count(connections))])
        deliver(subscribers)
    assert peer.callbacks == []  # nothing waits for it
    peer.drain()
    deliver(subscribers)
    assert told(peer) == [{"connections": 3}]
    assert told(quick) == [{"connections": 1}, {"connections": 2}, {"connections": 3}]


def test_in_a_large_room_all_are_told_in_turn_and_small_rooms_do_not_wait() -> None:
    subscribers = OccupancySubscribers("s", limit=10_000)
    crowd = [member() for _ in range(1000)]
    for one, _ in crowd:
        subscribers.add(ROOM, one, "metrics")
    small, peer = member()
    subscribers.add(OTHER, small, "metrics.connections")
    for second in range(1, 6):
        subscribers.update([(ROOM.id, count(1000 + second)), (OTHER.id, count(second))])
        assert deliver(subscribers, limit=300) <= 300 // SLICE_SUBSCRIBERS + 2
        assert len(told(peer)) == second
    assert {len(told(each)) for _, each in crowd} <= {1, 2}
    assert sum(len(told(each)) for _, each in crowd) == 5 * 300 - 5


def test_who_comes_to_a_quiet_room_is_told_and_the_others_are_not_told_again() -> None:
    subscribers, (one, peer) = OccupancySubscribers("s", limit=9), member()
    subscribers.add(ROOM, one, "metrics.connections")
    subscribers.update([(ROOM.id, count(2))])
    deliver(subscribers)
    late, newcomer = member()
    subscribers.add(ROOM, late, "metrics.connections")
    deliver(subscribers)
    assert told(newcomer) == told(peer) == [{"connections": 2}]


def test_only_so_many_may_ask() -> None:
    subscribers = OccupancySubscribers("s", limit=2)
    both = [subscribers.add(ROOM, member()[0], "metrics") for _ in range(2)]
    assert not subscribers.has_capacity
    subscribers.remove(both[0])
    subscribers.remove(both[0])
    assert subscribers.has_capacity
    assert len(subscribers) == 1


def test_more_rooms_than_are_read_at_once_take_turns() -> None:
    subscribers = OccupancySubscribers("s", limit=100)
    for number in range(1, 8):
        subscribers.add(RoomRef(number, f"room-{number}", "abcdefgh"), member()[0], "metrics")
    read = [room for _ in range(4) for room in subscribers.rooms(2)]
    assert sorted(read[:7]) == list(range(1, 8))


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("ask"), st.sampled_from(["metrics", "metrics.publishers"])),
            st.tuples(st.just("leave"), st.integers(0, 9)),
            st.tuples(st.just("learn"), st.integers(1, 3), st.integers(0, 3)),
            st.tuples(st.just("block"), st.integers(0, 9)),
            st.tuples(st.just("deliver"), st.integers(1, 4)),
            st.tuples(st.just("interrupt"), st.integers(0, 9)),
        ),
        max_size=60,
    )
)
def test_in_the_end_everybody_knows_what_holds_and_was_never_told_the_same_twice_running(does: list[Any]) -> None:
    subscribers, asked, metrics = (
        OccupancySubscribers("s", limit=1000),
        list[tuple[OccupancySubscriber, Peer]](),
        NOBODY,
    )
    under_way: list[Iterator[None]] = []
    for step, *arguments in does:
        if step == "ask":
            one, peer = member()
            asked.append((subscribers.add(ROOM, one, arguments[0]), peer))
        elif step == "learn":
            metrics = count(*arguments[:1], publishers=arguments[1])
            subscribers.update([(ROOM.id, metrics)])
        elif step == "deliver":
            deliver(subscribers, arguments[0])
        elif asked and step == "leave":
            subscribers.remove(asked.pop(arguments[0] % len(asked))[0])
        elif asked and step == "block":
            asked[arguments[0] % len(asked)][1].writable ^= True
        elif asked and step == "interrupt":  # somebody leaves between two slices
            steps = subscribers.deliver(2)
            next(steps, None)
            subscribers.remove(asked.pop(arguments[0] % len(asked))[0])
            under_way.append(steps)
            under_way.pop().close()  # type: ignore[attr-defined]
    for _, peer in asked:
        peer.writable = True
    subscribers.update([(ROOM.id, metrics := count(9, publishers=9))])
    deliver(subscribers)
    for subscriber, peer in asked:
        said = told(peer)
        assert said[-1] == part_of(metrics, subscriber.category)
        assert all(one != other for one, other in pairwise(said))
    assert len(subscribers) == len(asked)
