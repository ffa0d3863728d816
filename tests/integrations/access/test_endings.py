"""Whatever happens in which order: nobody stays connected by a token that was revoked."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pytest_django import Settings

from integrations.access.endings import Endings
from integrations.access.revocation_book import RevokedTokens
from rooms.access.capabilities import Capability
from rooms.access.grants import Grant
from rooms.errors import ChatError
from rooms.gateway.connections import Connections

NOBODY = Capability({})
CLIENTS = st.sampled_from("ab")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["let in", "revoke", "revoke soon"]), CLIENTS),
        st.tuples(st.sampled_from(["hold the oldest", "look", "refresh", "renew the last"]), st.just("")),
    ),
    max_size=12,
)


class Peer:
    """Somebody who was let in; `ended` once told to go."""

    def __init__(self, number: int, grant: Grant) -> None:
        self.connection_id = str(number)
        self.grant = grant
        self.is_idle = True
        self.ended = False
        self.held = False

    def keep_alive(self) -> bool:
        return False

    def take_no_more(self) -> None:
        """Nothing is published."""

    def ask_for_token(self) -> None:
        """It does not answer."""

    def end(self, error: ChatError) -> None:
        assert error.code == 40141
        self.ended = True


class World:
    """A table of revocations, a gateway that knows of it, and peers on their way to that gateway."""

    def __init__(self) -> None:
        self.table: list[RevokedTokens] = []
        self.endings = Endings(self._read)
        self.connections = Connections(idle_seconds=15)
        self.peers: list[Peer] = []
        self.clock = 0.0

    async def step(self, what: str, client: str) -> None:
        self.clock += 1
        if what == "let in":
            grant = self._grant(client)
            if self.endings.judge(grant) is None:  # by what is known now, however old
                self.peers.append(Peer(len(self.peers), grant))
        elif what.startswith("revoke"):
            starts_at = time.monotonic() + (0.01 if what == "revoke soon" else 0.0)
            self.table.append(
                RevokedTokens(
                    key_name="k", subject="clientId", value=client, issued_before=self.clock, starts_at=starts_at
                )
            )
        elif what == "hold the oldest":
            self._hold(next((peer for peer in self.peers if not peer.held), None))
        elif what == "renew the last" and self.peers and not self.peers[-1].ended:
            self.peers[-1].grant = self._grant(self.peers[-1].grant.client_id or "")
            self.connections.recheck(self.peers[-1])
        elif what == "refresh":
            await self.endings.refresh()
        elif what == "look":
            await self.connections.end_revoked()

    def is_revoked(self, peer: Peer) -> bool:
        return any(ended.covers(peer.grant) for ended in self.table)

    def _hold(self, peer: Peer | None) -> None:
        if peer is not None:
            peer.held = True
            self.connections.register(peer)
            self.connections.recheck(peer)

    def _grant(self, client: str) -> Grant:
        return Grant(
            client_id=client, capability=NOBODY, key_name="k", token_id="t", issued_at=self.clock, issued_to=client
        )

    def _read(self, last: int, limit: int) -> tuple[list[RevokedTokens], int]:
        found = self.table[last : last + limit]
        return found, last + len(found)


_worlds: list[World] = []


def here() -> Endings:
    return _worlds[-1].endings


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(STEPS)
@example([("let in", "a"), ("revoke", "a"), ("look", ""), ("hold the oldest", "")])
@example([("let in", "a"), ("hold the oldest", ""), ("revoke", "a"), ("refresh", ""), ("let in", "a")])
def test_after_a_look_nobody_is_held_by_a_token_that_was_revoked_and_everybody_else_is(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, steps: list[tuple[str, str]]
) -> None:
    settings.ROOMS_ENDINGS = f"{__name__}.here"
    monkeypatch.setattr("integrations.access.keys.list_ended", lambda sources, now: set())

    async def run() -> None:
        world = World()
        _worlds[:] = [world]
        for what, client in steps:
            await world.step(what, client)
        while any(ended.starts_at > time.monotonic() for ended in world.table):
            await asyncio.sleep(0.001)
        await world.connections.end_revoked()
        held = [peer for peer in world.peers if peer.held]
        assert [peer.ended for peer in held] == [world.is_revoked(peer) for peer in held]

    asyncio.run(run())
