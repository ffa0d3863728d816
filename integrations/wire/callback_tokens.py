"""Callback tokens: each permits one verdict, on one message, for one rule, for a short time. Pure.

A token is `payload.mac`, both base64url. The payload names message, rule, operation, expiry (milliseconds), audience
and the token's id; nothing in it is secret. The MAC's key is derived from SECRET_KEY, so an unused token needs no row.
integrations.callbacks.callback_uses stores its use, and lets one use decide.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Sequence
from functools import lru_cache

import msgspec

# Part of every token that is in use: it stays as it is, wherever this module goes.
CONTEXT = b"integrations.callbacks 1"
AUDIENCE = "verdict"
PUBLISH = "publish"
MAX_ID_CHARACTERS = 43
MAX_TOKEN_CHARACTERS = 512
# Every payload begins with these letters, because its first claim is the id. The end is a MAC.
TOKEN = re.compile(r"eyJpIjoi[A-Za-z0-9_-]{1,512}\.[A-Za-z0-9_-]{43}")
HIDDEN = "token-not-shown"


class CallbackClaims(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The claims of a token. The tokens of all attempts of a delivery have its webhook id, so that one use decides."""

    id: str = msgspec.field(name="i")
    message: int = msgspec.field(name="m")  # primary key
    rule: int = msgspec.field(name="r")  # primary key
    expires: int = msgspec.field(name="e")  # milliseconds since the epoch
    operation: str = msgspec.field(name="o", default=PUBLISH)  # what the verdict is about
    audience: str = msgspec.field(name="a", default=AUDIENCE)


class BadToken(Exception):
    """The token was not issued here, was altered, or is for another purpose."""


class ExpiredToken(Exception):
    """The token has expired."""


@lru_cache(maxsize=8)
def derive_key(secret_key: str) -> bytes:
    """Return the key that signs callback tokens under a SECRET_KEY."""
    return hmac.digest(secret_key.encode(), CONTEXT, hashlib.sha256)


def issue(claims: CallbackClaims, key: bytes) -> str:
    """Return the token for claims."""
    payload = msgspec.json.encode(claims)
    return f"{_text(payload)}.{_text(_mac(payload, key))}"


def verify(token: str, keys: Sequence[bytes], *, audience: str = AUDIENCE, operation: str = PUBLISH) -> CallbackClaims:
    """Return the claims of a token, expired or not; `keys`: the current and former ones. Raises BadToken."""
    payload_text, dot, mac_text = token.partition(".")
    if not dot or len(token) > MAX_TOKEN_CHARACTERS:
        raise BadToken
    payload, mac = _bytes(payload_text), _bytes(mac_text)
    if not any([hmac.compare_digest(_mac(payload, key), mac) for key in keys]):
        raise BadToken
    try:
        claims = msgspec.json.decode(payload, type=CallbackClaims)
    except msgspec.MsgspecError:
        raise BadToken from None
    if (claims.audience, claims.operation) != (audience, operation) or not 0 < len(claims.id) <= MAX_ID_CHARACTERS:
        raise BadToken
    return claims


def require_current(claims: CallbackClaims, *, now_ms: int) -> None:
    """Raise ExpiredToken if the claims have expired."""
    if claims.expires <= now_ms:
        raise ExpiredToken


def hide(text: str) -> str:
    """Return a text with its tokens hidden: endpoints may repeat them in answers that people read."""
    return TOKEN.sub(HIDDEN, text)


def _mac(payload: bytes, key: bytes) -> bytes:
    return hmac.digest(key, payload, hashlib.sha256)


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    try:
        data = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise BadToken from None
    # Only the canonical text: base64 has unused bits that could be altered unnoticed.
    if _text(data) != text:
        raise BadToken
    return data
