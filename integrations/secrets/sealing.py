"""Encrypts secrets at rest with a key derived from SECRET_KEY; its former values (fallbacks) still decrypt."""

from __future__ import annotations

import base64
import hashlib
import hmac
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

CONTEXT = b"integrations.sealing 1"  # part of every stored secret: it stays as it is, wherever this module goes


class SealBroken(Exception):
    """A sealed secret cannot be decrypted: it was altered, or SECRET_KEY changed without a fallback."""


def seal(secret: str) -> bytes:
    """Return the secret encrypted and authenticated under SECRET_KEY."""
    return _box().encrypt(secret.encode())


def unseal(sealed: bytes | memoryview) -> str:
    """Return the secret. Raises SealBroken."""
    try:
        return _box().decrypt(bytes(sealed)).decode()
    except InvalidToken:
        raise SealBroken(
            "A stored secret cannot be read. If SECRET_KEY was changed, put its former value in SECRET_KEY_FALLBACKS."
        ) from None


def _box() -> MultiFernet:
    if not settings.SECRET_KEY:
        raise ImproperlyConfigured("Set SECRET_KEY (or SECRET_KEY_FILE): stored secrets are sealed with it.")
    return _make_box((settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS))


@lru_cache(maxsize=4)
def _make_box(keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(base64.urlsafe_b64encode(_derive(key))) for key in keys])


def _derive(key: str) -> bytes:
    return hmac.digest(key.encode(), CONTEXT, hashlib.sha256)
