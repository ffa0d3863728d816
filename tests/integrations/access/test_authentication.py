"""Who shows which key or token, and what they may do then."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import jwt
import pytest
from django.db import OperationalError
from django.utils import timezone

from integrations.access import authentication, keys, opaque_tokens
from integrations.access.authentication import MAX_KEPT_KEYS, KeyRing, authenticate
from integrations.access.keys import NewKey, SigningKey
from integrations.models import ApiKey
from rooms.access.capabilities import Capability
from rooms.access.grants import Credentials, Grant
from rooms.database.threads import run
from rooms.errors import ChatError, Code
from tests.patience import PATIENCE

# Lookups run on threads of their own, which see only what is committed.
pytestmark = pytest.mark.django_db(transaction=True)

ANYTHING = Capability.parse('{"*":["*"]}')


async def make(capability: Capability = ANYTHING) -> NewKey:
    return await run(keys.create, capability)


async def token_of(new: NewKey, client_id: str | None = "alice", *, life: float = 60, **changes: Any) -> str:
    key = (await run(keys.find, [new.row.name]))[new.row.name]
    wanted: dict[str, Any] = {"capability": None, "issued": int(time.time() * 1000), "life": int(life * 1000)}
    return opaque_tokens.issue(key, client_id=client_id, **(wanted | changes)).token


def jwt_of(new: NewKey, **changes: Any) -> str:
    now = int(time.time())
    claims = {"iat": now, "exp": now + 60, "x-ably-capability": '{"*":["*"]}', "x-ably-clientId": "alice"} | changes
    name, secret = keys.split_key(new.text)
    return jwt.encode(claims, secret, algorithm="HS256", headers={"kid": name})


async def show(**shown: str | None) -> Grant:
    return await authenticate(Credentials(**shown))


async def code_of(**shown: str | None) -> int:
    with pytest.raises(ChatError) as refused:
        await show(**shown)
    assert refused.value.message
    return refused.value.code


# --- Keys -------------------------------------------------------------------------------------------------


async def test_a_key_grants_its_capability_for_any_client_id() -> None:
    new = await make(Capability.parse('{"chat:*":["publish"]}'))
    grant = await show(key=new.text)
    assert (grant.client_id, grant.key_name, grant.token_id, grant.expires_at) == ("*", new.row.name, None, None)
    assert grant.capability.allows("chat:lobby", "publish")
    assert not grant.capability.allows("chat:lobby", "subscribe")


async def test_with_a_key_one_says_who_one_is() -> None:
    new = await make()
    assert (await show(key=new.text, client_id="bob")).client_id == "bob"
    assert await code_of(key=new.text, client_id="x" * 256) == Code.INVALID_CLIENT_ID


async def test_a_wrong_key_is_refused_and_says_why() -> None:
    new = await make()
    assert await code_of() == Code.NO_CREDENTIALS
    assert await code_of(key="", token="") == Code.NO_CREDENTIALS
    assert await code_of(key="nonsense") == Code.INVALID_CREDENTIALS
    assert await code_of(key=f"{new.row.name}:guess") == Code.INVALID_CREDENTIALS
    assert await code_of(key=f"{new.row.app_id}.unknown:guess") == Code.KEY_UNKNOWN


async def test_a_revoked_key_is_refused_within_the_time_that_keys_are_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("integrations.access.authentication.AUTHENTICATION_CACHE_SECONDS", 0.0)
    new = await make()
    await show(key=new.text)
    await run(keys.revoke, new.row.name, timezone.now())
    assert await code_of(key=new.text) == Code.KEY_REVOKED


async def test_a_key_that_was_asked_for_before_it_existed_works_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("integrations.access.authentication.AUTHENTICATION_CACHE_SECONDS", 2 * PATIENCE)
    new = await make()
    await run(ApiKey.objects.all().delete)
    assert await code_of(key=new.text) == Code.KEY_UNKNOWN
    await run(new.row.save, force_insert=True)
    await asyncio.wait_for(_until_accepted(new), PATIENCE)  # sooner than what is cached is looked up again


async def _until_accepted(new: NewKey) -> None:
    while True:
        try:
            await show(key=new.text)
            return
        except ChatError as refused:
            assert refused.code == Code.KEY_UNKNOWN
            await asyncio.sleep(0.02)


# --- Tokens -----------------------------------------------------------------------------------------------


async def test_a_token_grants_what_it_was_issued_for() -> None:
    new = await make()
    token = await token_of(new, capability=Capability.parse('{"a":["publish"]}'))
    grant = await show(token=token)
    assert (grant.client_id, grant.key_name) == ("alice", new.row.name)
    assert grant.token_id
    assert grant.expires_at == pytest.approx(time.time() + 60, abs=5)
    assert grant.capability.as_text() == '{"a":["publish"]}'


async def test_a_jwt_grants_what_its_claims_say_within_its_key() -> None:
    new = await make(Capability.parse('{"chat:*":["publish","subscribe"]}'))
    grant = await show(token=jwt_of(new, **{"x-ably-capability": '{"*":["subscribe","history"]}'}))
    assert grant.capability.as_text() == '{"chat:*":["subscribe"]}'
    assert grant.client_id == "alice"


@pytest.mark.parametrize("kind", ["opaque", "jwt"])
async def test_charlie_cannot_use_the_token_of_alice(kind: str) -> None:
    new = await make()
    token = await token_of(new) if kind == "opaque" else jwt_of(new)
    assert (await show(token=token, client_id="alice")).client_id == "alice"
    assert await code_of(token=token, client_id="charlie") == Code.INCOMPATIBLE_CREDENTIALS


async def test_a_token_without_client_id_is_anonymous_and_one_for_any_lets_choose() -> None:
    new = await make()
    nobody, anybody = await token_of(new, None), await token_of(new, "*")
    assert (await show(token=nobody)).client_id is None
    assert await code_of(token=nobody, client_id="bob") == Code.INCOMPATIBLE_CREDENTIALS
    assert (await show(token=anybody)).client_id == "*"
    assert (await show(token=anybody, client_id="bob")).client_id == "bob"


@pytest.mark.parametrize("kind", ["opaque", "jwt"])
async def test_an_expired_token_is_refused(kind: str) -> None:
    new = await make()
    now = int(time.time())
    token = await token_of(new, issued=(now - 100) * 1000) if kind == "opaque" else jwt_of(new, iat=now - 9, exp=now)
    assert await code_of(token=token) == Code.TOKEN_EXPIRED


@pytest.mark.parametrize("kind", ["opaque", "jwt"])
async def test_a_token_ends_with_its_key(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("integrations.access.authentication.AUTHENTICATION_CACHE_SECONDS", 0.0)
    new = await make()
    token = await token_of(new) if kind == "opaque" else jwt_of(new)
    await run(keys.revoke, new.row.name, timezone.now())
    assert await code_of(token=token) == Code.TOKEN_REVOKED
    await run(new.row.delete)
    assert await code_of(token=token) == Code.TOKEN_UNKNOWN


async def test_a_jwt_that_lives_longer_than_allowed_is_refused() -> None:
    now = int(time.time())
    assert await code_of(token=jwt_of(await make(), iat=now, exp=now + 86_401)) == Code.INVALID_PARAMETER


async def test_a_jwt_signed_with_the_secret_of_another_key_is_refused() -> None:
    mine, other = await make(), await make()
    secret = keys.split_key(mine.text)[1]
    claims = {"iat": time.time(), "exp": time.time() + 60, "x-ably-capability": '{"*":["*"]}'}
    token = jwt.encode(claims, secret, algorithm="HS256", headers={"kid": other.row.name})
    assert await code_of(token=token) == Code.TOKEN_INVALID


@pytest.mark.parametrize("token", ["nonsense", "a.b", "a.b.c", "....", "\0", "x" * 200_000, "ü.é.ß", "app.\ud800"])
async def test_noise_is_refused_as_a_token_that_can_be_renewed(token: str) -> None:
    assert 40140 <= await code_of(token=token) < 40150


async def test_a_token_counts_more_than_a_key_that_comes_along() -> None:
    new = await make()
    token = await token_of(new, capability=Capability.parse('{"a":["publish"]}'))
    assert (await show(key=new.text, token=token)).capability.as_text() == '{"a":["publish"]}'


# --- Many at once -----------------------------------------------------------------------------------------


async def test_a_crowd_with_tokens_of_one_key_costs_two_lookups_at_most() -> None:
    name = (await make()).row.name
    asked: list[set[str]] = []

    def count(names: Iterable[str]) -> dict[str, SigningKey]:
        asked.append(set(names))
        return keys.find(names)

    ring = KeyRing(count)
    found = await asyncio.gather(*(ring.find(name) for _ in range(500)))
    assert {key.name for key in found if key} == {name}
    assert len(asked) <= 2


async def test_a_connection_makes_no_ring_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    class Counted(KeyRing):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    monkeypatch.setattr(authentication, "KeyRing", Counted)
    new = await make()
    for _ in range(3):
        await show(key=new.text)
    assert len(made) == 1


async def test_a_flood_of_unknown_keys_costs_little_time_and_memory() -> None:
    queries = 0

    def count(names: Iterable[str]) -> dict[str, SigningKey]:
        nonlocal queries
        queries += 1
        return keys.find(names)

    ring = KeyRing(count)
    found = await asyncio.gather(*(ring.find(f"app.flood{number}") for number in range(MAX_KEPT_KEYS + 900)))
    assert set(found) == {None}
    assert queries <= 12
    assert ring.kept == MAX_KEPT_KEYS


async def test_a_name_that_no_key_can_have_is_never_looked_up() -> None:
    def refuse(names: Iterable[str]) -> dict[str, SigningKey]:
        raise AssertionError(names)

    assert await KeyRing(refuse).find("../../etc/passwd") is None


async def test_while_the_database_is_away_a_client_is_told_to_try_again() -> None:
    def fail(names: Iterable[str]) -> dict[str, SigningKey]:
        raise OperationalError("server closed the connection")

    with pytest.raises(ChatError) as refused:
        await KeyRing(fail).find("app.key")
    assert (refused.value.code, refused.value.status) == (Code.UNAVAILABLE, 503)


# --- Rotation ---------------------------------------------------------------------------------------------


async def test_what_a_former_secret_signed_is_good_until_its_overlap_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("integrations.access.authentication.AUTHENTICATION_CACHE_SECONDS", 0.0)
    former = await make()
    shown: list[dict[str, str | None]] = [
        {"key": former.text},
        {"token": await token_of(former)},
        {"token": jwt_of(former)},
    ]
    name, now = former.row.name, timezone.now()
    new = await run(keys.rotate, name, now, overlap=timedelta(hours=1))
    assert [(await show(**one)).source for one in shown] == [(name, 1)] * 3
    assert (await show(token=await token_of(new))).source == (name, 2)
    assert (await show(token=jwt_of(new))).source == (name, 2)

    await run(keys.rotate, name, now, overlap=timedelta(0))
    codes = [await code_of(**one) for one in shown]
    assert codes == [Code.INVALID_CREDENTIALS, Code.TOKEN_UNKNOWN, Code.TOKEN_INVALID]


async def test_a_jwt_that_is_wrong_by_itself_is_told_so_and_not_that_its_secret_is_old() -> None:
    former = await make()
    new = await run(keys.rotate, former.row.name, timezone.now(), overlap=timedelta(hours=1))
    with pytest.raises(ChatError, match="x-ably-capability"):
        await show(token=jwt_of(new, **{"x-ably-capability": 5}))
