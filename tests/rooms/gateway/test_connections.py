"""Who is held, who is told to go, and when."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rooms.access.capabilities import Capability
from rooms.access.grants import Grant
from rooms.errors import ChatError, Code
from rooms.gateway.connections import SLOTS, Connections


class Fake:
    """A connection that only counts."""

    def __init__(self, connections: Connections, name: str, *, unanswered: int = 0) -> None:
        self.connection_id = name
        self.grant = Grant(client_id=None, capability=Capability({}), key_name="app.key")
        self.signs_of_life = 0
        self.asked = 0
        self.unanswered = unanswered
        self.takes_more = True
        self.ended: ChatError | None = None
        self._connections = connections
        connections.register(self)

    @property
    def is_idle(self) -> bool:
        if self.unanswered:
            self.unanswered -= 1  # one is answered between two looks
            return False
        return True

    def keep_alive(self) -> bool:
        self.signs_of_life += 1
        return True

    def ignore_publishes(self) -> None:
        self.takes_more = False

    def ask_for_token(self) -> None:
        self.asked += 1

    def end(self, error: ChatError) -> None:
        assert self.ended is None
        assert not self.unanswered
        self.ended = error
        self._connections.unregister(self)


async def test_each_connection_hears_something_in_each_round() -> None:
    connections = Connections(idle_seconds=0.001 * SLOTS)
    members = [Fake(connections, f"m{number}") for number in range(500)]
    beating = asyncio.create_task(connections.keep_alive())
    while min(member.signs_of_life for member in members) < 2:
        await asyncio.sleep(0)
    beating.cancel()

    assert max(member.signs_of_life for member in members) <= 3
    assert connections.kept_alive == sum(member.signs_of_life for member in members)


async def test_a_connection_that_fails_silences_no_other() -> None:
    class Broken(Fake):
        def keep_alive(self) -> bool:
            raise RuntimeError("a fault")

    connections = Connections(idle_seconds=0.001 * SLOTS)
    for number in range(SLOTS):
        Broken(connections, f"b{number}")
    member = Fake(connections, "m")
    beating = asyncio.create_task(connections.keep_alive())
    while member.signs_of_life < 2 and not beating.done():
        await asyncio.sleep(0)
    assert beating.cancel()


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 2), max_size=60), st.sampled_from([0.0, 0.1]))
def test_all_are_sent_away_once_and_none_before_its_publishes_are_answered(unanswered: list[int], over: float) -> None:
    async def run() -> None:
        connections = Connections(idle_seconds=15)
        members = [Fake(connections, f"m{place}", unanswered=count) for place, count in enumerate(unanswered)]
        await connections.drain(over)

        assert len(connections) == 0
        assert connections.sent_away == len(members)
        for member in members:
            assert member.ended is not None
            assert member.ended.code == Code.DISCONNECTED  # no token error: SDKs come back at once (RTN15h3)

    asyncio.run(run())


async def test_who_goes_on_publishing_is_listened_to_no_longer_and_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rooms.gateway.connections.LISTEN_SECONDS", 0.1)
    connections = Connections(idle_seconds=15)
    member = Fake(connections, "busy", unanswered=4)
    await connections.drain(0)

    assert member.ended is not None
    assert not member.takes_more


async def test_a_connection_that_comes_back_ends_its_former_self_and_stays() -> None:
    connections = Connections(idle_seconds=15)
    former = Fake(connections, "same")
    again = Fake(connections, "same")
    connections.unregister(former)

    assert former.ended is not None
    assert again.ended is None
    assert list(connections) == [again]
