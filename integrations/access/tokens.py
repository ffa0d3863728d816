"""Tokens of both kinds: their content, and the checks on client id, capability and lifetime. Pure.

The kinds are in opaque_tokens.py (issued here) and jwts.py (issued by customers); both have `name_key` and `read`.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, Self

import msgspec

from rooms.access.capabilities import Capability
from rooms.access.grants import ANY_CLIENT
from rooms.errors import ChatError, Code

MAX_CHARACTERS = 131_072  # the SDKs' own limit
MAX_CLIENT_ID_CHARACTERS = 255
# How far the clocks of other servers may be ahead of ours.
LEEWAY_SECONDS = 60.0


class TokenKey(Protocol):
    """The part of an API key that signs and verifies tokens."""

    @property
    def name(self) -> str:
        """`appId.keyId`."""

    @property
    def secret(self) -> str:
        """The secret, known to the key's owner and this server."""

    @property
    def capability(self) -> Capability:
        """The bound of what the key's tokens may do."""

    @property
    def capability_text(self) -> str:
        """The capability's canonical text."""


@dataclass(frozen=True, kw_only=True)
class Token:
    """A token with a verified signature; call `require_current` for its lifetime. Times in seconds since the epoch."""

    id: str
    key_name: str
    client_id: str | None
    capability: Capability
    issued_at: float
    starts_at: float
    expires_at: float
    revocation_key: str | None = None

    def require_current(self, now: float, *, max_life: float) -> Self:
        """Return the token. Raises ChatError 40142 when expired, 40144 before its time, 40003 if it lives too long."""
        if now >= self.expires_at:
            raise ChatError(Code.TOKEN_EXPIRED, "The token has expired. Request a new one.")
        if now < self.starts_at - LEEWAY_SECONDS:
            raise ChatError(Code.TOKEN_INVALID, "The token is not valid yet. Is the clock of its issuer right?")
        # From its issue, not from its start: revocations are kept for as long as a token issued before them can live.
        if self.expires_at - self.issued_at > max_life:
            raise ChatError(
                Code.INVALID_PARAMETER, f"The token lives too long: at most {max_life:.0f} seconds are allowed."
            )
        return self


class WrongSecret(ChatError):
    """The token was not signed with this secret of its key; perhaps with the former one."""


class TokenDetails(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The public answer to a token request. Times in milliseconds since the epoch."""

    token: str
    key_name: str
    issued: int
    expires: int
    capability: str
    client_id: str | None = None

    def __repr__(self) -> str:
        return f"TokenDetails(key_name={self.key_name!r}, client_id={self.client_id!r}, expires={self.expires})"


def check_client_id(client_id: str | None) -> None:
    """Raise ChatError 40012 for an invalid client id. None (anonymous) and "*" (any) are valid."""
    if client_id is None:
        return
    if not 0 < len(client_id) <= MAX_CLIENT_ID_CHARACTERS or not is_storable(client_id):
        raise ChatError(Code.INVALID_CLIENT_ID, f"A client id is a text of 1 to {MAX_CLIENT_ID_CHARACTERS} characters.")


def identify(granted: str | None, requested: str | None) -> str | None:
    """Return the client id of a peer: the granted one, or the requested one if any is granted.

    Raises ChatError 40102, 40012.
    """
    if requested in (None, "", ANY_CLIENT, granted):
        return granted
    if granted != ANY_CLIENT:
        raise ChatError(Code.INCOMPATIBLE_CREDENTIALS, "The token was not issued for the client id that is asked for.")
    check_client_id(requested)
    return requested


@lru_cache(maxsize=256)
def narrow(capability: str, key_capability: str) -> Capability:
    """Return the intersection of a token's and its key's capability. Raises ChatError 40003, 40160.

    Cached, so that 100,000 members with like tokens share one object.
    """
    allowed = Capability.parse(capability).intersect(Capability.parse(key_capability))
    return require_some(allowed)


def require_some(capability: Capability) -> Capability:
    """Return the capability. Raises ChatError 40160 if it allows nothing."""
    if capability.is_empty:
        raise ChatError(Code.OPERATION_NOT_PERMITTED, "The key allows nothing of what the token should be able to do.")
    return capability


def is_storable(text: str) -> bool:
    """Return whether Postgres can store a text: no NUL, no lone surrogate."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def to_base64url(raw: bytes) -> str:
    """Return base64url without padding, as in RFC 7515."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def from_base64url(text: str) -> bytes:
    """Return the bytes of a canonical base64url text. Raises ValueError for any other text."""
    raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if to_base64url(raw) != text:
        raise ValueError("not canonical")
    return raw
