"""The door to the app that keeps keys: rooms knows it by dotted path only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Protocol

from django.conf import settings
from django.utils.module_loading import import_string

from rooms.access.grants import Credentials, Grant, Source
from rooms.errors import ChatError


class Endings(Protocol):
    """What ended of that by which peers were let in. Answers from memory, except where it says so."""

    async def look(self, sources: Collection[Source]) -> bool:
        """Ask the database, for peers of these sources. Return whether any that was let in before is concerned."""

    def judge(self, grant: Grant) -> ChatError | None:
        """Return why a grant is no longer good, None if it is."""

    def wants_renewal(self, grant: Grant) -> bool:
        """Tell whether a grant was found, at the last look, to end soon: the peer has time to get another."""


async def authenticate(credentials: Credentials) -> Grant:
    """Check credentials (setting ROOMS_AUTHENTICATE) and return what they allow. Raises ChatError 401xx."""
    check: Callable[[Credentials], Awaitable[Grant]] = import_string(settings.ROOMS_AUTHENTICATE)
    return await check(credentials)


def endings() -> Endings:
    """Return what the running loop knows of revocations (setting ROOMS_ENDINGS)."""
    find: Callable[[], Endings] = import_string(settings.ROOMS_ENDINGS)
    return find()
