"""What a gateway counts is what a recount would find, and what it writes ends as what it counts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rooms.access.capabilities import Capability
from rooms.access.grants import Grant
from rooms.connection.attachments import Attachment, Attachments
from rooms.errors import ChatError
from rooms.log.directory import RoomRef
from rooms.occupancy.counts import CATEGORIES, NOBODY, Counters, Metrics, category_of, part_of, share_of, total
from rooms.occupancy.subscribers import OccupancySubscribers
from rooms.protocol.wire import MODES, Flag

ROOMS = {name: RoomRef(number, name, "abcdefgh") for number, name in enumerate("abc", start=1)}
OPERATIONS = ["publish", "subscribe", "presence", "presence-subscribe", "history", "channel-metadata"]
modes = st.integers(0, 2**32).map(lambda bits: Flag(bits & int(MODES)))
rooms = st.sampled_from(sorted(ROOMS))
grants = st.dictionaries(rooms, st.lists(st.sampled_from(OPERATIONS), min_size=1), min_size=1).map(
    lambda capability: Grant(client_id="a", capability=Capability.parse(capability), key_name="k")
)
steps = st.one_of(
    st.tuples(st.just("attach"), st.integers(0, 2), rooms, modes),
    st.tuples(st.just("detach"), st.integers(0, 2), rooms),
    st.tuples(st.just("recheck"), st.integers(0, 2), grants),
    st.tuples(st.just("close"), st.integers(0, 2)),
)


class Hub:
    """A room's hub, as far as attachments ask."""

    def __init__(self, room: RoomRef) -> None:
        self.room = room
        self.members: set[Any] = set()

    def join(self, member: Any, *, after: int | None) -> None:
        self.members.add(member)

    def leave(self, member: Any) -> None:
        self.members.discard(member)


class Gateway:
    """A gateway with nothing but its counts."""

    def __init__(self) -> None:
        self.occupancy = self
        self.counters = Counters()
        self.subscribers = OccupancySubscribers("s", limit=1000)
        self.hubs = {name: Hub(room) for name, room in ROOMS.items()}


class Connection(Attachments):
    """A connection whose attaches have come as far as entering the room."""

    def __init__(self, gateway: Any) -> None:
        socket: Any = type("Socket", (), {"write": None})
        super().__init__(gateway, socket, None, connection_id="c", echo=True, reply=lambda message: None)  # type: ignore[arg-type]

    def enter(self, name: str, modes: Flag) -> None:
        self._leave(name)
        self._enter(ROOMS[name], self._gateway.hubs[name], None, modes, "metrics")  # type: ignore[index, arg-type]

    @property
    def all(self) -> list[Attachment]:
        return list(self._rooms.values())


@given(st.lists(steps, max_size=40))
def test_whatever_connections_do_the_counts_are_those_of_a_recount(does: list[Any]) -> None:
    gateway = Gateway()
    connections = [Connection(gateway) for _ in range(3)]
    for step, place, *arguments in does:
        if step == "attach":
            connections[place].enter(*arguments)
        else:
            getattr(connections[place], step)(*arguments)
        attached = [attachment for connection in connections for attachment in connection.all]
        for name, room in ROOMS.items():
            inside = [one for one in attached if one.room.name == name]
            assert gateway.counters.here(room.id) == total(share_of(one.modes) for one in inside)
            assert gateway.hubs[name].members == {one.member for one in inside if one.member}
        assert len(gateway.subscribers) == sum(one.subscriber is not None for one in attached)
        assert all(one.member is not None for one in attached if one.subscriber)
    for connection in connections:
        connection.close()
    assert all(gateway.counters.here(room.id) == NOBODY for room in ROOMS.values())
    assert len(gateway.subscribers) == 0


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("enter"), st.integers(1, 5), modes),
            st.tuples(st.just("write"), st.integers(1, 3), st.booleans()),
            st.tuples(st.just("lose")),
        )
    ),
    st.randoms(use_true_random=False),
)
def test_what_is_written_ends_as_what_is_counted(does: list[Any], random: Any) -> None:
    counters = Counters()
    inside: list[tuple[int, Flag]] = []
    stored: dict[int, Metrics] = {}
    for step, *arguments in does:
        if step == "enter":
            counters.enter(*arguments)
            inside.append((arguments[0], arguments[1]))
        elif step == "lose":
            stored.clear()
            counters.write_all_again()
        else:
            changes = counters.changes(arguments[0])
            assert len(changes) <= arguments[0]
            if arguments[1]:  # else Postgres was away
                if inside:  # somebody leaves while the changes are under way
                    counters.leave(*inside.pop(random.randrange(len(inside))))
                stored.update(changes)
                counters.written(changes)
    for _ in range(5):
        changes = counters.changes(3)
        stored.update(changes)
        counters.written(changes)
    assert counters.unwritten == 0
    assert {room: metrics for room, metrics in stored.items() if metrics != NOBODY} == {
        room: counters.here(room) for room in range(1, 6) if counters.here(room) != NOBODY
    }


def test_a_room_that_changes_all_the_time_does_not_keep_the_others_from_being_written() -> None:
    counters = Counters()
    for room in range(1, 8):
        counters.enter(room, Flag.SUBSCRIBE)
    seen: set[int] = set()
    for _ in range(4):
        changes = counters.changes(2)
        counters.enter(1, Flag.SUBSCRIBE)
        counters.written(changes)
        seen |= {room for room, _ in changes}
    assert seen == set(range(1, 8))


def test_a_category_is_told_alone_and_nonsense_is_refused_by_name() -> None:
    metrics = Metrics(5, 4, 3, 2, 1)
    assert category_of({}) is category_of(None) is category_of({"occupancy": ""}) is None
    assert part_of(metrics, "metrics")["presenceSubscribers"] == 1
    assert {part_of(metrics, category)[category.partition(".")[2]] for category in CATEGORIES} == {0, 1, 2, 3, 4, 5}
    with pytest.raises(ChatError) as refused:
        category_of({"occupancy": "metrics.people"})
    assert refused.value.code == 40003
    assert "metrics.publishers" in refused.value.message
