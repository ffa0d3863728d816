"""Signs and verifies webhook calls by the Standard Webhooks scheme, symmetric (v1). Pure.

HMAC-SHA256 signs the bytes `id.timestamp.body`. A call carries one signature for each valid secret, so that a secret
can be rotated without losing a call.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets as randomness
from collections.abc import Iterable, Mapping

PREFIX = "whsec_"
SECRET_BYTES = 32
TOLERANCE_SECONDS = 300
TIMESTAMP = re.compile(r"[0-9]{1,12}", re.ASCII)


class BadSignature(Exception):
    """The call has no valid signature; the text says why and quotes nothing of the call."""


def draw_secret() -> str:
    """Return a new random secret in its public form."""
    return PREFIX + base64.b64encode(randomness.token_bytes(SECRET_BYTES)).decode()


def sign(secrets: Iterable[str], *, webhook_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the three headers of a call's signature. `timestamp`: seconds, of this attempt."""
    if "." in webhook_id:
        raise ValueError("A webhook id must hold no dot: it would make two calls sign the same bytes.")
    content = _content(webhook_id, str(timestamp), body)
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{_mac(secret, content)}" for secret in secrets),
    }


def verify(secrets: Iterable[str], headers: Mapping[str, str], body: bytes, *, now: float) -> None:
    """Verify that a call's headers (names in lower case) carry a fresh signature by one of the secrets.

    Raises BadSignature for everything else, however malformed.
    """
    webhook_id = headers.get("webhook-id", "")
    timestamp = headers.get("webhook-timestamp", "")
    if not webhook_id or "." in webhook_id or not TIMESTAMP.fullmatch(timestamp):
        raise BadSignature("The headers webhook-id and webhook-timestamp are missing or malformed.")
    if abs(now - int(timestamp)) > TOLERANCE_SECONDS:
        raise BadSignature(f"The call is more than {TOLERANCE_SECONDS} seconds old, or from the future.")
    content = _content(webhook_id, timestamp, body)
    given = [part[3:] for part in headers.get("webhook-signature", "").split() if part.startswith("v1,")]
    # No early exit: the duration must not reveal which secret or signature was close.
    matches = [
        hmac.compare_digest(_mac(secret, content).encode(), signature.encode(errors="replace"))
        for secret in secrets
        for signature in given
    ]
    if not any(matches):
        raise BadSignature("No signature of the call is by a secret of this rule.")


def _content(webhook_id: str, timestamp: str, body: bytes) -> bytes:
    return b".".join((webhook_id.encode(errors="replace"), timestamp.encode(), body))


def _mac(secret: str, content: bytes) -> str:
    return base64.b64encode(hmac.digest(_key(secret), content, hashlib.sha256)).decode()


def _key(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        raise ValueError(f"A secret is {PREFIX} and base64.") from None
