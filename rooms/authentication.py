"""The door to the app that keeps keys: rooms knows it by dotted path only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection

from django.conf import settings
from django.utils.module_loading import import_string

from rooms.grants import Credentials, Grant


async def authenticate(credentials: Credentials) -> Grant:
    """Check credentials (setting ROOMS_AUTHENTICATE) and return what they allow. Raises ChatError 401xx."""
    check: Callable[[Credentials], Awaitable[Grant]] = import_string(settings.ROOMS_AUTHENTICATE)
    return await check(credentials)


def list_revoked(key_names: Collection[str]) -> set[str]:
    """Return which of the keys are no longer valid (setting ROOMS_LIST_REVOKED). Asks the database."""
    check: Callable[[Collection[str]], set[str]] = import_string(settings.ROOMS_LIST_REVOKED)
    return check(key_names)
