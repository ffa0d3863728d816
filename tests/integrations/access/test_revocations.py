"""Revoked tokens stop: at connect, by REST and on live connections, known from Postgres alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError
from django.utils import timezone

from integrations.access import keys, revocations
from integrations.access.authentication import authenticate
from integrations.access.endings import Endings, of_this_loop
from integrations.access.keys import NewKey
from integrations.access.revocation_book import RevokedTokens
from rooms.access.grants import Credentials, Grant
from rooms.database.threads import run
from rooms.errors import ChatError, Code
from rooms.gateway.connections import Connections
from tests.integrations.revoking import ANYTHING, ask, jwt_of, token_of

# Lookups run on threads of their own, which see only what is committed.
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def new() -> NewKey:
    return keys.create(ANYTHING)


async def grant_of(token: str) -> Grant:
    return await authenticate(Credentials(token=token))


async def code_of(token: str) -> int:
    # As a gateway that looks now: in between it is believed for FRESH_SECONDS.
    await of_this_loop().refresh()
    try:
        await grant_of(token)
    except ChatError as error:
        return error.code
    return 0


# --- What stops -------------------------------------------------------------------------------------------


async def test_a_revoked_token_is_refused_and_one_that_is_issued_then_is_good(new: NewKey) -> None:
    former, other = await run(token_of, new), await run(token_of, new, "bob")
    await run(ask, new, "clientId:alice")
    assert (await code_of(former), await code_of(other)) == (Code.TOKEN_REVOKED, 0)
    later = await run(token_of, new, issued=time.time() + 1)
    assert await code_of(later) == 0


async def test_a_jwt_is_revoked_by_its_key_its_id_or_a_room_that_it_names(new: NewKey) -> None:
    by_group = jwt_of(new, **{"x-ably-revocation-key": "group"})
    by_id, by_room = jwt_of(new, jti="one"), jwt_of(new)
    await run(ask, new, "revocationKey:group", "tokenId:one")
    assert [await code_of(token) for token in (by_group, by_id, by_room)] == [40141, 40141, 0]
    await run(ask, new, "channel:team:*")
    assert await code_of(by_room) == Code.TOKEN_REVOKED


@pytest.mark.parametrize("value", [5, "", "x" * 256, "a\0b"])
async def test_a_jwt_with_a_revocation_key_by_which_it_could_not_be_revoked_is_refused(new: NewKey, value: Any) -> None:
    assert await code_of(jwt_of(new, **{"x-ably-revocation-key": value})) == Code.TOKEN_INVALID


async def test_a_token_cannot_outlive_the_revocation_by_starting_late(new: NewKey) -> None:
    now = time.time()
    token = jwt_of(new, iat=now - 80_000, nbf=now, exp=now + 80_000)
    assert await code_of(token) == Code.INVALID_PARAMETER


async def test_within_three_quarters_of_a_second_a_token_is_checked_without_a_query(new: NewKey) -> None:
    token = await run(token_of, new)
    assert await code_of(token) == 0
    asked: list[int] = []

    def count(last: int, limit: int) -> tuple[list[RevokedTokens], int]:
        asked.append(last)
        return [], last

    known = Endings(count)
    await asyncio.gather(*(known.refresh(older_than=0.75) for _ in range(50)))
    await known.refresh(older_than=0.75)
    assert len(asked) == 1


async def test_revocations_with_a_margin_come_into_force_by_themselves(new: NewKey, monkeypatch: Any) -> None:
    monkeypatch.setattr(revocations, "MARGIN", timedelta(seconds=2))
    token = await run(token_of, new)
    await run(ask, new, "clientId:alice", allowReauthMargin=True)
    known = Endings()
    grant = await grant_of(token)
    assert await known.look({grant.source})
    assert (known.judge(grant), known.wants_renewal(grant)) == (None, True)
    while not await known.look({grant.source}):
        assert not known.wants_renewal(grant)
        await asyncio.sleep(0.02)
    error = known.judge(grant)
    assert error is not None
    assert error.code == Code.TOKEN_REVOKED


async def test_after_a_failure_all_revocations_are_read_again() -> None:
    asked: list[int] = []
    fails: list[bool] = [False, False, True, False, False]

    def read(last: int, limit: int) -> tuple[list[RevokedTokens], int]:
        asked.append(last)
        if fails[len(asked) - 1]:
            raise OperationalError("server closed the connection")
        one = RevokedTokens(key_name="k", subject="tokenId", value="t", issued_before=0, starts_at=0)
        return ([one], 7) if last == 0 else ([], last)

    known = Endings(read)
    await known.refresh()
    with pytest.raises(OperationalError):
        await asyncio.gather(*(known.refresh() for _ in range(3)))
    await known.refresh()
    assert asked == [0, 7, 7, 0, 7]
    assert known.held == 1


# --- Live connections -------------------------------------------------------------------------------------


class Peer:
    """A connection that notes what it is told."""

    def __init__(self, name: str, grant: Grant) -> None:
        self.connection_id = name
        self.grant = grant
        self.is_idle = True
        self.asked = 0
        self.codes: list[int] = []

    def keep_alive(self) -> bool:
        return False

    def take_no_more(self) -> None:
        """Nothing is published."""

    def ask_for_token(self) -> None:
        self.asked += 1

    def end(self, error: ChatError) -> None:
        self.codes.append(error.code)


async def held(connections: Connections, make: Callable[..., str], new: NewKey, *clients: str) -> list[Peer]:
    peers = [Peer(client, await grant_of(await run(make, new, client))) for client in clients]
    for peer in peers:
        connections.register(peer)
        connections.recheck(peer)
    return peers


async def test_live_connections_of_revoked_tokens_end_and_no_others(new: NewKey) -> None:
    connections = Connections(idle_seconds=15)
    alice, bob = await held(connections, token_of, new, "alice", "bob")
    await run(ask, new, "clientId:alice")
    await connections.end_revoked()
    assert (alice.codes, bob.codes, connections.revoked) == ([Code.TOKEN_REVOKED], [], 1)


async def test_who_was_let_in_before_a_revocation_and_held_after_it_was_read_ends_too(new: NewKey) -> None:
    connections = Connections(idle_seconds=15)
    late = Peer("late", await grant_of(await run(token_of, new)))
    await run(ask, new, "clientId:alice")
    await connections.end_revoked()
    connections.register(late)
    connections.recheck(late)
    assert late.codes == [Code.TOKEN_REVOKED]


async def test_a_client_is_asked_once_for_another_token_while_its_own_is_good_still(new: NewKey) -> None:
    connections = Connections(idle_seconds=15)
    alice, bob = await held(connections, token_of, new, "alice", "bob")
    await run(ask, new, "clientId:alice", allowReauthMargin=True)
    for _ in range(3):
        await connections.end_revoked()
    assert (alice.asked, alice.codes, bob.asked) == (1, [], 0)


async def test_connections_of_a_secret_that_was_rotated_out_end(new: NewKey) -> None:
    connections = Connections(idle_seconds=15)
    (alice,) = await held(connections, token_of, new, "alice")
    by_key = Peer("by key", await authenticate(Credentials(key=new.text)))
    connections.register(by_key)
    await run(keys.rotate, new.row.name, timezone.now(), overlap=timedelta(hours=1))
    await connections.end_revoked()
    assert (alice.codes, by_key.codes) == ([], [])
    await run(keys.rotate, new.row.name, timezone.now(), overlap=timedelta(0))
    await connections.end_revoked()
    assert (alice.codes, by_key.codes) == ([Code.TOKEN_REVOKED], [Code.KEY_REVOKED])


async def test_connections_are_walked_only_after_something_was_revoked(new: NewKey) -> None:
    known = Endings()
    source = (new.row.name, 1)
    assert not await known.look({source})
    await run(ask, new, "clientId:alice")
    assert [await known.look({source}) for _ in range(2)] == [True, False]
    await run(keys.revoke, new.row.name, timezone.now())
    assert await known.look({source})
