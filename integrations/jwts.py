"""JSON Web Tokens that somebody's own server signs with the secret of one of our keys. Pure.

Header: alg HS256, kid = the key's name. Claims: iat, exp, x-ably-capability, x-ably-clientId, optionally nbf and jti.
Only `kid` decides which key verifies, in our own table: jku, jwk, x5u and the like are never looked at.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import jwt

from integrations.tokens import (
    MAX_CHARACTERS,
    Key,
    Token,
    check_client_id,
    from_base64url,
    narrow,
    to_base64url,
)
from rooms.errors import ChatError, Code

ALGORITHMS = ["HS256"]
# Times are ours to check, with the caller's clock; an audience is nobody's business here.
OPTIONS: Any = {"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": False}
CAPABILITY = "x-ably-capability"
CLIENT_ID = "x-ably-clientId"
ID_BYTES = 12


def is_jwt(token: str) -> bool:
    """Tell a JWT by its two dots; our own tokens have one."""
    return token.count(".") == 2


def name_key(token: str) -> str:
    """Return the name of the key that a JWT claims to be signed with, not verified yet. Raises ChatError 40144."""
    try:
        header = jwt.get_unverified_header(token) if len(token) <= MAX_CHARACTERS else {}
    except (jwt.InvalidTokenError, ValueError):
        raise refused("it cannot be parsed") from None
    if header.get("alg") not in ALGORITHMS:
        raise refused("its algorithm must be HS256")
    name = header.get("kid")
    if not isinstance(name, str) or not name:
        raise refused("its header must name the key (appId.keyId) as kid")
    return name


def read(token: str, key: Key) -> Token:
    """Verify a JWT with the key that it names. Raises ChatError 40144, 40012, 40003, 40160."""
    claims = _verify(token, key)
    client_id = claims.get(CLIENT_ID)
    if client_id is not None and not isinstance(client_id, str):
        raise ChatError(Code.INVALID_CLIENT_ID, f"{CLIENT_ID} in the JWT is not a text.")
    check_client_id(client_id)
    starts = _moment(claims, "iat")
    return Token(
        id=_identity(claims, token),
        key_name=key.name,
        client_id=client_id,
        capability=narrow(_capability_text(claims), key.capability_text),
        starts_at=max(starts, _moment(claims, "nbf")) if "nbf" in claims else starts,
        expires_at=_moment(claims, "exp"),
    )


def refused(reason: str) -> ChatError:
    """Return the error of a JWT that is not accepted."""
    return ChatError(Code.TOKEN_INVALID, f"This JWT is not accepted: {reason}.")


def _verify(token: str, key: Key) -> dict[str, Any]:
    if name_key(token) != key.name:
        raise refused("it names another key")
    try:
        # The library reads several texts as the same signature; here a token has one form only.
        from_base64url(token.rpartition(".")[2])
        return jwt.decode(token, key.secret, algorithms=ALGORITHMS, options=OPTIONS)
    except (jwt.InvalidTokenError, ValueError, RecursionError):
        raise refused("its signature is not one of the key that it names") from None


def _identity(claims: dict[str, Any], token: str) -> str:
    given = claims.get("jti")
    digest = hashlib.sha256(token.encode()).digest()
    return given if isinstance(given, str) and given else to_base64url(digest[:ID_BYTES])


def _moment(claims: dict[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 2**53:
        raise refused(f"{name} must be a number, in seconds since the epoch")
    return float(value)


def _capability_text(claims: dict[str, Any]) -> str:
    value = claims.get(CAPABILITY)
    if isinstance(value, dict):
        return json.dumps(value)
    if not isinstance(value, str):
        raise refused(f"{CAPABILITY} must be a JSON text")
    return value
