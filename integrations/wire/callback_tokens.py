"""Callback tokens: the right to give the verdict on one message, for one rule, for a short time. Pure.

`payload.mac`, both base64url. The payload names message, rule, operation, expiry (milliseconds), audience, and the
token itself; nothing in it is secret. The key is derived from SECRET_KEY, so a token needs no row until it is used:
then its use does, of which there is one that decides (integrations.callbacks.callback_uses).
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
# The beginning is that of every payload: its first claim is the id. The end is a MAC.
TOKEN = re.compile(r"eyJpIjoi[A-Za-z0-9_-]{1,512}\.[A-Za-z0-9_-]{43}")
HIDDEN = "token-not-shown"


class CallbackClaims(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a token is good for. All tokens of one delivery, an attempt each, have its webhook id: one use decides."""

    id: str = msgspec.field(name="i")
    message: int = msgspec.field(name="m")  # primary key
    rule: int = msgspec.field(name="r")  # primary key
    expires: int = msgspec.field(name="e")  # milliseconds since the epoch
    operation: str = msgspec.field(name="o", default=PUBLISH)  # what is asked about the message
    audience: str = msgspec.field(name="a", default=AUDIENCE)


class BadToken(Exception):
    """The token is not one of ours, was changed, or is for something else."""


class ExpiredToken(Exception):
    """The token was good once."""


@lru_cache(maxsize=8)
def derive_key(secret_key: str) -> bytes:
    """Return the key that signs callback tokens under a SECRET_KEY."""
    return hmac.digest(secret_key.encode(), CONTEXT, hashlib.sha256)


def issue(claims: CallbackClaims, key: bytes) -> str:
    """Return the token of claims."""
    payload = msgspec.json.encode(claims)
    return f"{_text(payload)}.{_text(_mac(payload, key))}"


def verify(token: str, keys: Sequence[bytes], *, audience: str = AUDIENCE, operation: str = PUBLISH) -> CallbackClaims:
    """Return what a token is good for, if it is current; `keys`: today's and the former ones. Raises BadToken."""
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
    """Raise ExpiredToken for what was good once."""
    if claims.expires <= now_ms:
        raise ExpiredToken


def hide(text: str) -> str:
    """Return a text without the tokens in it: endpoints repeat what they were sent, and people may read it."""
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
    # One token has one spelling: base64 has unused bits that could be changed unnoticed.
    if _text(data) != text:
        raise BadToken
    return data
