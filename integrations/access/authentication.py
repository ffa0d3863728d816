"""Authenticates API keys and tokens and returns what they grant. The rooms app calls it (ROOMS_AUTHENTICATE)."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from types import ModuleType
from weakref import WeakKeyDictionary

from django.conf import settings
from django.db import DatabaseError, InterfaceError

from integrations.access import endings, jwts, keys, opaque_tokens
from integrations.access.endings import FRESH_SECONDS
from integrations.access.keys import SigningKey
from integrations.access.tokens import Token, WrongSecret, identify
from rooms.access.grants import ANY_CLIENT, Credentials, Grant
from rooms.database.threads import run
from rooms.errors import ChatError, Code
from rooms.publishing.batcher import Batcher, Full

AUTHENTICATION_CACHE_SECONDS = 0.4  # a revoked key opens connections for so long, which end half a second later

# An unknown key is looked up again soon, because it may have just been made. This stops a flood of one wrong key.
UNKNOWN_SECONDS = 0.2
MAX_KEPT_KEYS = 4096
MAX_KEYS_PER_QUERY = 500
MAX_WAITING = 20_000

Find = Callable[[Iterable[str]], dict[str, SigningKey]]


async def authenticate(credentials: Credentials) -> Grant:
    """Return the grant of a key or a token.

    Raises ChatError: 401xx, 40012 or 40003 if the credentials are not valid, 50004 or 50005 if trying again may help.
    """
    if credentials.token:
        return await _by_token(credentials.token, credentials.client_id, time.time())
    if credentials.key:
        return await _by_key(credentials.key, credentials.client_id, time.time())
    raise ChatError(Code.NO_CREDENTIALS, "Send a key (key=appId.keyId:secret) or a token (accessToken=...).")


def read_token(text: str, found: SigningKey | None, now: float) -> tuple[Token, SigningKey]:
    """Return a token after checking its signature, and its key with the secret that signed it.

    Raises ChatError 40143, 40144, 40012, 40003, 40160. Checks neither the expiry nor revocations.
    """
    if found is None:
        raise ChatError(Code.TOKEN_UNKNOWN, "The key that the token was made with does not exist here.")
    kind = _kind_of(text)
    *candidates, last = found.usable(now)
    for key in candidates:
        try:
            return kind.read(text, key), key
        except WrongSecret:
            continue
    return kind.read(text, last), last


def name_key(token: str) -> str:
    """Return the key name in a token, which is not verified yet. Raises ChatError 4014x."""
    name: str = _kind_of(token).name_key(token)
    return name


def _kind_of(token: str) -> ModuleType:
    return jwts if jwts.is_jwt(token) else opaque_tokens


async def _by_key(text: str, client_id: str | None, now: float) -> Grant:
    name, secret = keys.split_key(text)
    key = keys.check_secret(name, await _find(name), secret, now)
    # A key may act for every client id (RSA7b4), or for the one that the peer names.
    return Grant(
        client_id=identify(ANY_CLIENT, client_id),
        capability=key.capability,
        key_name=key.name,
        secret_version=key.version,
    )


async def _by_token(text: str, client_id: str | None, now: float) -> Grant:
    token, key = read_token(text, await _find(name_key(text)), now)
    if key.is_revoked:
        # 4014x and not 40131: a client that can renew its token may get one of another key.
        raise ChatError(Code.TOKEN_REVOKED, "The key that the token was made with is revoked.")
    token = token.require_current(now, max_life=settings.TOKEN_MAX_TTL_SECONDS)
    grant = Grant(
        client_id=identify(token.client_id, client_id),
        capability=token.capability,
        key_name=token.key_name,
        secret_version=key.version,
        token_id=token.id,
        issued_at=token.issued_at,
        issued_to=token.client_id,
        revocation_key=token.revocation_key,
        expires_at=token.expires_at,
    )
    if error := (await _current_endings()).judge(grant):
        raise error
    return grant


async def _current_endings() -> endings.Endings:
    here = endings.of_this_loop()
    try:
        await here.refresh(older_than=FRESH_SECONDS)
    except (DatabaseError, InterfaceError):
        raise ChatError(Code.UNAVAILABLE, "Tokens cannot be checked right now. Try again.", status=503) from None
    return here


# --- Lookup of keys ---------------------------------------------------------------------------------------


class KeyRing:
    """A cache of the keys that this process has looked up, including names that do not exist.

    Lookups that arrive during a query share the next one, so that a crowd that connects costs a few queries. Beyond
    MAX_KEPT_KEYS the least recently used key goes; beyond MAX_WAITING a lookup is refused with 50004.
    """

    def __init__(self, find: Find = keys.find) -> None:
        self._find = find
        # By name: the time (monotonic) until which the entry is valid, and the key, None if it does not exist.
        self._kept: OrderedDict[str, tuple[float, SigningKey | None]] = OrderedDict()
        self._lookups = Batcher(self._load, max_batch=MAX_KEYS_PER_QUERY, max_waiting=MAX_WAITING)

    @property
    def kept(self) -> int:
        """The number of cached names."""
        return len(self._kept)

    async def find(self, name: str) -> SigningKey | None:
        """Return the key, None if there is none."""
        if keys.split_name(name) is None:
            return None
        until, key = self._kept.get(name, (0.0, None))
        if time.monotonic() < until:
            self._kept.move_to_end(name)
            return key
        try:
            return await self._lookups.submit(name)
        except Full:
            raise ChatError(Code.BUSY, "Too many are connecting at once. Try again in a moment.", status=503) from None
        except (DatabaseError, InterfaceError):
            raise ChatError(Code.UNAVAILABLE, "Keys cannot be checked right now. Try again.", status=503) from None

    async def _load(self, names: Sequence[str]) -> list[SigningKey | None]:
        asked_at = time.monotonic()
        found = await run(self._find, set(names))
        known_for: float = AUTHENTICATION_CACHE_SECONDS
        for name in names:
            key = found.get(name)
            self._kept[name] = (asked_at + (known_for if key else min(known_for, UNKNOWN_SECONDS)), key)
            self._kept.move_to_end(name)
        while len(self._kept) > MAX_KEPT_KEYS:
            self._kept.popitem(last=False)
        return [found.get(name) for name in names]


_rings: WeakKeyDictionary[asyncio.AbstractEventLoop, KeyRing] = WeakKeyDictionary()


async def _find(name: str) -> SigningKey | None:
    # One cache for each event loop: tests have several loops, and futures belong to one.
    loop = asyncio.get_running_loop()
    ring = _rings.get(loop)
    if ring is None:
        ring = _rings[loop] = KeyRing()
    return await ring.find(name)
