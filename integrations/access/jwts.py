"""JSON Web Tokens, which a customer's server signs with the secret of an API key. Pure.

Header: alg HS256, kid = the key's name. Claims: iat, exp, x-ably-capability, x-ably-clientId, optionally nbf, jti and
x-ably-revocation-key.
Only `kid` selects the key, from our own table: jku, jwk, x5u and the like are ignored. Verified here with the standard
library: there is one algorithm, and PyJWT 2.15 takes 0.5 ms for a token of 5 KB, most of it before it has checked the
signature. The tests sign with PyJWT.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

from integrations.access.tokens import (
    MAX_CHARACTERS,
    Token,
    TokenKey,
    WrongSecret,
    check_client_id,
    from_base64url,
    is_storable,
    narrow,
    to_base64url,
)
from rooms.errors import ChatError, Code

ALGORITHM = "HS256"
MAX_HEADER_CHARACTERS = 4096
CAPABILITY = "x-ably-capability"
CLIENT_ID = "x-ably-clientId"
REVOCATION_KEY = "x-ably-revocation-key"
# Revocations cannot name a longer id or revocation key.
MAX_ID_CHARACTERS = 255
ID_BYTES = 12


def is_jwt(token: str) -> bool:
    """Return whether a token is a JWT: it has two dots, our own tokens have one."""
    return token.count(".") == 2


def name_key(token: str) -> str:
    """Return the key name in a JWT's header, which is not verified yet. Raises ChatError 40144."""
    text = token.partition(".")[0]
    header = _load(text) if len(text) <= MAX_HEADER_CHARACTERS and len(token) <= MAX_CHARACTERS else {}
    if header.get("alg") != ALGORITHM or "crit" in header:
        raise refused(f"it must be signed with {ALGORITHM}, without extensions")
    name = header.get("kid")
    if not isinstance(name, str) or not name:
        raise refused("its header must name the key (appId.keyId) as kid")
    return name


def read(token: str, key: TokenKey) -> Token:
    """Verify a JWT with the key that it names. Raises ChatError 40144, 40012, 40003, 40160.

    The error is a WrongSecret if another secret of the key may have signed it.
    """
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
        issued_at=starts,
        starts_at=max(starts, _moment(claims, "nbf")) if "nbf" in claims else starts,
        expires_at=_moment(claims, "exp"),
        revocation_key=_revocation_key(claims),
    )


def refused(reason: str) -> ChatError:
    """Return the error for a JWT that is not accepted."""
    return ChatError(Code.TOKEN_INVALID, f"This JWT is not accepted: {reason}.")


def _verify(token: str, key: TokenKey) -> dict[str, Any]:
    """Return the claims. The header is read before the signature is checked, the claims only afterwards."""
    if name_key(token) != key.name:
        raise refused("it names another key")
    signed, _, signature = token.rpartition(".")
    # The header is known to be ASCII; the rest may be anything.
    expected = hmac.digest(key.secret.encode(), signed.encode(errors="replace"), hashlib.sha256)
    # Compared as texts: base64 has several texts for the same bytes, but a token must have one form.
    if not hmac.compare_digest(to_base64url(expected).encode(), signature.encode(errors="replace")):
        error = refused("its signature is not one of the key that it names")
        raise WrongSecret(error.code, error.message)
    return _load(signed.partition(".")[2])


def _load(text: str) -> dict[str, Any]:
    try:
        content = json.loads(from_base64url(text))
    except (ValueError, RecursionError):
        raise refused("it cannot be parsed") from None
    if not isinstance(content, dict):
        raise refused("it cannot be parsed")
    return content


def _identity(claims: dict[str, Any], token: str) -> str:
    given = claims.get("jti")
    digest = hashlib.sha256(token.encode()).digest()
    if isinstance(given, str) and 0 < len(given) <= MAX_ID_CHARACTERS:
        return given
    return to_base64url(digest[:ID_BYTES])


def _revocation_key(claims: dict[str, Any]) -> str | None:
    value = claims.get(REVOCATION_KEY)
    if value is None:
        return None
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ID_CHARACTERS or not is_storable(value):
        # A token that could not be revoked by its revocation key must not be accepted.
        raise refused(f"{REVOCATION_KEY} must be a text of 1 to {MAX_ID_CHARACTERS} characters")
    return value


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
