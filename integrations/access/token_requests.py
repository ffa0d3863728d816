"""Requests for tokens: signed by a customer's server with a key's secret, or sent together with the key itself."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import msgspec
from django.conf import settings
from django.db import IntegrityError, transaction

from integrations.access import keys, opaque_tokens
from integrations.access.keys import SigningKey
from integrations.access.tokens import TokenDetails, is_storable
from integrations.models import UsedNonce
from rooms.access.capabilities import Capability
from rooms.errors import ChatError, Code

TOKEN_REQUEST_WINDOW_SECONDS = 900.0  # between a request's clock and ours; used nonces are kept as long

NONCE_CHARACTERS = range(16, 129)
# Expired nonces deleted with each request; more than one, so that the table shrinks after a rush.
CLEANED_PER_REQUEST = 20


class TokenRequest(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The public shape. Times in milliseconds; `capability` a JSON text; without `mac` the key must be sent too."""

    key_name: str | None = None
    ttl: int | None = None
    capability: str | dict[str, Any] | None = None
    client_id: str | None = None
    timestamp: int | None = None
    nonce: str | None = None
    mac: str | None = None

    @classmethod
    def parse(cls, body: Any) -> Self:
        """Read a decoded body. Raises ChatError 40003."""
        # Numbers as texts are common: the protocol's own examples write "3600000".
        if isinstance(body, dict) and body.get("ttl") == "":
            body = {**body, "ttl": None}
        try:
            return msgspec.convert(body, cls, strict=False)
        except msgspec.ValidationError as error:
            raise ChatError(Code.INVALID_PARAMETER, f"This is not a token request: {error}.") from None

    def __repr__(self) -> str:
        return f"TokenRequest(key_name={self.key_name!r}, client_id={self.client_id!r})"

    @property
    def capability_text(self) -> str:
        """The capability as it was signed."""
        if isinstance(self.capability, dict):
            return json.dumps(self.capability, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
        return self.capability or ""

    @property
    def life(self) -> int:
        """The lifetime of the requested token, in milliseconds. Raises ChatError 40003."""
        life = self.ttl or settings.TOKEN_TTL_SECONDS * 1000
        if not 0 < life <= settings.TOKEN_MAX_TTL_SECONDS * 1000:
            raise ChatError(
                Code.INVALID_PARAMETER,
                f"ttl must be between 1 and {settings.TOKEN_MAX_TTL_SECONDS * 1000} milliseconds.",
            )
        return life


def sign(request: TokenRequest, key_name: str, secret: str) -> str:
    """Return the MAC that a request must carry: base64 of HMAC-SHA256 over its fields, a line each."""
    fields = (
        key_name,
        request.ttl or "",
        request.capability_text,
        request.client_id or "",
        request.timestamp or 0,
        request.nonce or "",
    )
    text = "".join(f"{value}\n" for value in fields)
    # A text with a lone surrogate cannot have been signed; "replace" makes its MAC differ.
    digest = hmac.digest(secret.encode(), text.encode(errors="replace"), hashlib.sha256)
    return base64.b64encode(digest).decode()


def answer(key_name: str, request: TokenRequest, shown_key: str | None, now: datetime) -> TokenDetails:
    """Check a request and issue its token.

    Raises ChatError 40130, 40131 or 40101 for the key, 40106 if the request is neither signed nor comes with a key,
    40104 or 40105 if it is too old or was used before, 40003, 40012 or 40160 for its content.
    """
    if request.key_name not in (None, "", key_name):
        raise ChatError(Code.INVALID_PARAMETER, "keyName in the body is not the one in the address.")
    key = check_signed(key_name, request, now) if request.mac else check_shown(key_name, shown_key, now)
    details = opaque_tokens.issue(
        key,
        capability=Capability.parse(request.capability) if request.capability else None,
        client_id=request.client_id,
        issued=int(now.timestamp() * 1000),
        life=request.life,
    )
    if request.mac:
        # Last: a refused request can be corrected, and without the secret nobody can fill the table.
        use_nonce(key, request, now)
    return details


def check_signed(key_name: str, request: TokenRequest, now: datetime) -> SigningKey:
    """Return the key that signed a request, if its timestamp is current. Raises ChatError."""
    key = _signer_of(request, keys.require_known(keys.find([key_name]).get(key_name)), now)
    window = TOKEN_REQUEST_WINDOW_SECONDS * 1000
    if abs((request.timestamp or 0) - now.timestamp() * 1000) > window:
        raise ChatError(
            Code.TIMESTAMP_NOT_CURRENT, "The token request is too old, or the clock that dated it is wrong."
        )
    return keys.require_valid(key)


def check_shown(key_name: str, shown_key: str | None, now: datetime) -> SigningKey:
    """Return the key that was sent with an unsigned request. Raises ChatError."""
    if not shown_key:
        raise ChatError(
            Code.NO_CREDENTIALS, "Sign the token request (nonce and mac), or send the key by Basic authentication."
        )
    name, secret = keys.split_key(shown_key)
    if name != key_name:
        raise ChatError(Code.INVALID_CREDENTIALS, "The key that was sent is not the one in the address.")
    return keys.check_secret(name, keys.find([name]).get(name), secret, now.timestamp())


def _signer_of(request: TokenRequest, found: SigningKey, now: datetime) -> SigningKey:
    given = (request.mac or "").encode(errors="replace")
    for key in found.usable(now.timestamp()):
        if hmac.compare_digest(sign(request, found.name, key.secret).encode(), given):
            return key
    raise ChatError(Code.INVALID_CREDENTIALS, "The mac of the token request is not right for this key.")


def use_nonce(key: SigningKey, request: TokenRequest, now: datetime) -> None:
    """Store a request's nonce until its timestamp is too old. Raises ChatError 40105 for a used one, 40003."""
    nonce = request.nonce or ""
    if len(nonce) not in NONCE_CHARACTERS or not is_storable(nonce):
        raise ChatError(
            Code.INVALID_PARAMETER, f"nonce must have {NONCE_CHARACTERS[0]} to {NONCE_CHARACTERS[-1]} characters."
        )
    signed_at = datetime.fromtimestamp((request.timestamp or 0) / 1000, UTC)
    expires_at = signed_at + timedelta(seconds=TOKEN_REQUEST_WINDOW_SECONDS)
    try:
        with transaction.atomic():
            UsedNonce.objects.create(key_id=key.id, nonce=nonce, expires_at=expires_at)
    except IntegrityError:
        raise ChatError(
            Code.NONCE_REPLAYED, "This token request was used before. Each one is good for one token."
        ) from None
    forget_nonces(now)


@transaction.atomic
def forget_nonces(now: datetime) -> None:
    """Delete a few nonces whose requests are too old to be sent again."""
    # Skips rows that another request is deleting: waiting for each other could be a deadlock.
    old = UsedNonce.objects.select_for_update(skip_locked=True).filter(expires_at__lt=now).order_by("expires_at")
    UsedNonce.objects.filter(id__in=list(old.values_list("id", flat=True)[:CLEANED_PER_REQUEST])).delete()
