"""What an ATTACH asks for, however it asks."""

from __future__ import annotations

from typing import Any

from rooms.access.capabilities import Capability
from rooms.access.grants import Grant
from rooms.connection.attachments import Attachments, modes_of
from rooms.fanout.hub import Hub
from rooms.fanout.sockets import ENCODINGS, Framing
from rooms.gateway.starting_points import StartingPoint
from rooms.log.directory import RoomRef
from rooms.occupancy.counts import NOBODY, Counters
from rooms.occupancy.subscribers import OccupancySubscribers
from rooms.protocol.wire import Action, Flag, Format, ProtocolMessage
from tests.rooms.fanout.test_hub import Peer, resources
from tests.rooms.occupancy.test_counts import Connection, Gateway

PLAIN = ENCODINGS[Format.JSON, Framing.PLAIN]
GRANT = Grant(client_id="a", capability=Capability.parse({"*": ["*"]}), key_name="app.key")


def test_flags_of_any_value_leave_nothing_in_memory() -> None:
    kept = len(Flag._value2member_map_)
    for number in range(2000):
        modes_of(ProtocolMessage(action=Action.ATTACH, flags=(number << 30) - 7), "room", GRANT)

    assert len(Flag._value2member_map_) < kept + 64


def test_an_attach_gets_the_modes_that_it_names_as_flags_or_by_name() -> None:
    by_flags = ProtocolMessage(action=Action.ATTACH, flags=int(Flag.SUBSCRIBE) | 1 << 40)
    by_name = ProtocolMessage(action=Action.ATTACH, params={"modes": "subscribe,nonsense"})

    assert modes_of(by_flags, "room", GRANT) == modes_of(by_name, "room", GRANT) == Flag.SUBSCRIBE


class Ending:
    """A gateway whose connection ends while it attaches: its token ran out, or its key was revoked."""

    def __init__(self) -> None:
        self.directory = self.starting_points = self.occupancy = self
        self.counters, self.subscribers = Counters(), OccupancySubscribers("s", limit=1)
        self.joined: list[Any] = []
        self.room = RoomRef(1, "lobby", "abcdefgh")
        self.is_closed = False

    async def get(self, name: str, *_: Any) -> RoomRef:
        return self.room

    async def hub(self, room: RoomRef) -> Any:
        return self

    async def find(self, *_: Any) -> StartingPoint:
        self.attachments.close()
        return StartingPoint(None)

    def join(self, member: Any, *, after: int | None) -> None:
        self.joined.append(member)


async def test_who_ends_while_attaching_enters_no_room_and_is_not_counted() -> None:
    here: Any = Ending()
    replies: list[ProtocolMessage] = []
    here.attachments = Attachments(here, here, here, connection_id="c", echo=True, reply=replies.append)
    await here.attachments.attach(ProtocolMessage(action=Action.ATTACH, channel="lobby"), GRANT)

    assert here.joined == replies == []
    assert here.counters.here(1) == NOBODY


async def test_who_attaches_while_postgres_takes_long_enters_no_hub_that_was_closed_meanwhile() -> None:
    hubs = [Hub(RoomRef(1, "lobby", "abcdefgh"), resources(), position=number) for number in (1, 2)]

    class Slow(Ending):
        async def hub(self, room: RoomRef) -> Any:
            return next(hub for hub in hubs if not hub.is_closed)

        async def find(self, *_: Any) -> StartingPoint:
            hubs[0].close()
            return StartingPoint(1, resumed=True)

    here: Any = Slow()
    attachments = Attachments(here, Peer(), PLAIN, connection_id="c", echo=True, reply=lambda _: None)
    await attachments.attach(ProtocolMessage(action=Action.ATTACH, channel="lobby"), GRANT)

    assert [hub.members for hub in hubs] == [0, 1]


def test_who_may_only_read_history_stays_attached_with_a_new_token_of_the_same_right() -> None:
    told: list[ProtocolMessage] = []
    gateway: Any = Gateway()
    connection = Connection(gateway)
    connection._reply = told.append  # type: ignore[method-assign]
    connection.enter("a", Flag(0))
    connection.recheck(Grant(client_id="a", capability=Capability.parse({"a": ["history"]}), key_name="k"))
    assert not told and connection.find("a")

    connection.recheck(Grant(client_id="a", capability=Capability.parse({"b": ["history"]}), key_name="k"))
    assert [message.action for message in told] == [Action.ERROR] and connection.find("a") is None
