"""Calls the app that keeps keys and revocations; the settings name its functions, so that rooms imports nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Protocol

from django.conf import settings
from django.utils.module_loading import import_string

from rooms.access.grants import Credentials, Grant, Source
from rooms.errors import ChatError


class Endings(Protocol):
    """The keys and tokens that were ended early. Answers from memory, except in `look`."""

    async def look(self, sources: Collection[Source]) -> bool:
        """Read the revocations of these keys from the database. Return whether they may concern grants given before."""

    def judge(self, grant: Grant) -> ChatError | None:
        """Return the error for a grant that is no longer valid; None while it is."""

    def wants_renewal(self, grant: Grant) -> bool:
        """Return whether the last `look` saw that a grant ends soon, so that the client can renew its token in time."""


async def authenticate(credentials: Credentials) -> Grant:
    """Check credentials with the function in ROOMS_AUTHENTICATE and return their grant. Raises ChatError 401xx."""
    check: Callable[[Credentials], Awaitable[Grant]] = import_string(settings.ROOMS_AUTHENTICATE)
    return await check(credentials)


def endings() -> Endings:
    """Return the revocations that the running event loop knows, from the function in ROOMS_ENDINGS."""
    find: Callable[[], Endings] = import_string(settings.ROOMS_ENDINGS)
    return find()
