"""Makes and reads connection keys: a connection's id, a private part, and our signature (RTN15)."""

from __future__ import annotations

from functools import lru_cache

from django.conf import settings
from django.core.signing import BadSignature, Signer


def make(connection_id: str, private: str, client_id: str | None) -> str:
    """Return the key with which a client may resume its connection, at any gateway."""
    return _signer(client_id).sign(f"{connection_id}.{private}")


def read(key: str | None, client_id: str | None) -> tuple[str, str] | None:
    """Return the connection id and the private part of a key that any gateway gave to this client.

    None for any other key.
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
    # The signature covers the client id: a key that leaked is of no use to another client.
    salt = f"connection of {client_id}" if client_id is not None else "connection"
    return Signer(key=key, fallback_keys=list(fallback_keys), salt=salt, sep="!")
