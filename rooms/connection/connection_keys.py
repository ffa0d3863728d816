"""Connection keys: a connection's id, a secret part of it, and our signature. Any gateway can take it up (RTN15)."""

from __future__ import annotations

from functools import lru_cache

from django.conf import settings
from django.core.signing import BadSignature, Signer


def make(connection_id: str, private: str, client_id: str | None) -> str:
    """Return the key by which that client may resume the connection."""
    return _signer(client_id).sign(f"{connection_id}.{private}")


def read(key: str | None, client_id: str | None) -> tuple[str, str] | None:
    """Return the connection id, and its private part, of a key that this server gave to that client.

    Whichever process did. None for any other key.
    """
    try:
        connection_id, _, private = _signer(client_id).unsign(key).partition(".") if key else ("", "", "")
    except BadSignature:
        return None
    return (connection_id, private) if private else None


def _signer(client_id: str | None) -> Signer:
    return _make_signer(client_id, settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)


@lru_cache(maxsize=1024)
def _make_signer(client_id: str | None, key: str, *fallback_keys: str) -> Signer:
    # The client id is part of what is signed: a key is of no use to anybody else who got hold of it.
    salt = f"connection of {client_id}" if client_id is not None else "connection"
    return Signer(key=key, fallback_keys=list(fallback_keys), salt=salt, sep="!")
