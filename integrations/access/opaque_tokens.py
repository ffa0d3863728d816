"""Tokens that this server issues and only it can read. Pure: no clock, no database.

A token is `appId.` and the base64url text of: version, length of the key id, key id, nonce, sealed content. The content
is encrypted because a capability may be confidential. The encryption key is derived from the API key's secret: a token
needs no row of its own, and ends with its key.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import zlib

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from integrations.access.tokens import (
    MAX_CHARACTERS,
    Token,
    TokenDetails,
    TokenKey,
    WrongSecret,
    check_client_id,
    from_base64url,
    is_storable,
    narrow,
    require_some,
    to_base64url,
)
from rooms.access.capabilities import Capability
from rooms.errors import ChatError, Code

VERSION = 1
NONCE_BYTES = 12
# Part of every token that is in use: it stays as it is, wherever this module goes.
KEY_CONTEXT = b"integrations.opaque_tokens 1"
# Tokens travel in the address of the WebSocket, of which web servers read 16 KiB.
MAX_ISSUED_CHARACTERS = 12_288
MAX_CONTENT_BYTES = 1_048_576
UNREADABLE = "This is not a token of this server. Request a new one."


class _TokenContent(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Times in milliseconds since the epoch."""

    issued: int
    expires: int
    client_id: str | None
    capability: str


def issue(
    key: TokenKey, *, capability: Capability | None, client_id: str | None, issued: int, life: int
) -> TokenDetails:
    """Issue a token with a capability within the key's; None means all of it. Times in milliseconds.

    Raises ChatError 40160 if nothing of the capability is left, 40012 for a bad client id, 40003 if it is too long.
    """
    check_client_id(client_id)
    allowed = require_some(key.capability if capability is None else capability.intersect(key.capability))
    content = _TokenContent(issued=issued, expires=issued + life, client_id=client_id, capability=allowed.as_text())
    return TokenDetails(
        token=_seal(key, content),
        key_name=key.name,
        issued=content.issued,
        expires=content.expires,
        capability=content.capability,
        client_id=client_id,
    )


def name_key(token: str) -> str:
    """Return the key name in a token, which is not verified yet. Raises ChatError 40143."""
    return _unpack(token)[0]


def read(token: str, key: TokenKey) -> Token:
    """Decrypt a token with the key that it names. Raises ChatError 40143 if this key did not issue it.

    The error is a WrongSecret if another secret of the key may open it.
    """
    key_name, nonce, sealed = _unpack(token)
    try:
        packed = AESGCM(_derive(key.secret)).decrypt(nonce, sealed, _associated(key_name))
    except InvalidTag:
        raise WrongSecret(Code.TOKEN_UNKNOWN, UNREADABLE) from None
    content = msgspec.msgpack.decode(zlib.decompressobj().decompress(packed, MAX_CONTENT_BYTES), type=_TokenContent)
    return Token(
        id=to_base64url(nonce),
        key_name=key_name,
        client_id=content.client_id,
        capability=narrow(content.capability, key.capability_text),
        issued_at=content.issued / 1000,
        starts_at=content.issued / 1000,
        expires_at=content.expires / 1000,
    )


def _seal(key: TokenKey, content: _TokenContent) -> str:
    if not is_storable(content.capability):
        raise ChatError(Code.INVALID_PARAMETER, "The capability holds half of a character.")
    app_id, _, key_id = key.name.partition(".")
    nonce = secrets.token_bytes(NONCE_BYTES)
    packed = zlib.compress(msgspec.msgpack.encode(content))
    sealed = AESGCM(_derive(key.secret)).encrypt(nonce, packed, _associated(key.name))
    token = f"{app_id}.{to_base64url(bytes((VERSION, len(key_id))) + key_id.encode() + nonce + sealed)}"
    if len(token) > MAX_ISSUED_CHARACTERS:
        raise ChatError(
            Code.INVALID_PARAMETER, "The capability is too long for a token. Name rooms by patterns such as team:*."
        )
    return token


def _unpack(token: str) -> tuple[str, bytes, bytes]:
    """Return key name, nonce and sealed content."""
    app_id, _, text = token.partition(".")
    try:
        raw = from_base64url(text) if app_id and len(token) <= MAX_CHARACTERS else b""
        if len(raw) < 2 or raw[0] != VERSION:
            raise _unreadable()
        end = 2 + raw[1]
        key_id = raw[2:end].decode("ascii")
    except ValueError:
        raise _unreadable() from None
    nonce, sealed = raw[end : end + NONCE_BYTES], raw[end + NONCE_BYTES :]
    if len(nonce) < NONCE_BYTES or not sealed:
        raise _unreadable()
    return f"{app_id}.{key_id}", nonce, sealed


def _derive(secret: str) -> bytes:
    return hmac.digest(secret.encode(), KEY_CONTEXT, hashlib.sha256)


def _associated(key_name: str) -> bytes:
    return bytes((VERSION,)) + key_name.encode()


def _unreadable() -> ChatError:
    return ChatError(Code.TOKEN_UNKNOWN, UNREADABLE)
