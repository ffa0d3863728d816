"""What an ATTACH asks for, however it asks."""

from __future__ import annotations

from rooms.attachments import modes_of
from rooms.capabilities import Capability
from rooms.grants import Grant
from rooms.wire import Action, Flag, ProtocolMessage

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
