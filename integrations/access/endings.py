"""Revoked keys and tokens and rotated secrets, as one process knows them. The rooms app reads it (ROOMS_ENDINGS)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from functools import cache
from weakref import WeakKeyDictionary

from django.utils import timezone

from integrations.access import keys, revocations
from integrations.access.revocation_book import RevocationBook, RevokedTokens
from rooms.access.grants import Grant, Source
from rooms.database.threads import SingleThread
from rooms.errors import ChatError, Code

# The gateway looks twice a second; a peer that connects in between needs no query.
FRESH_SECONDS = 0.5
# All revocations are read again: expired ones go, and those of a restored database replace the former.
RELOAD_SECONDS = 3600.0
PAGE = 2000

ReadRevocations = Callable[[int, int], tuple[list[RevokedTokens], int]]


class Endings:
    """The revocations, cached in memory and read on from Postgres. One for each event loop; queries run in a thread."""

    def __init__(self, read: ReadRevocations = revocations.read_after) -> None:
        self._read_after = read
        self._book = RevocationBook()
        self._last: int | None = None  # id of the last revocation read; None: read all
        self._read_at = self._loaded_at = -RELOAD_SECONDS
        self._reading: asyncio.Task[None] | None = None
        self._ended: set[Source] = set()
        self._has_changed = False
        self._announced: list[RevokedTokens] = []  # not in force yet; read since the last look
        self._renewing = RevocationBook()  # the announced ones of the last look, as if they were in force

    @property
    def held(self) -> int:
        """The number of revocations in memory."""
        return len(self._book)

    async def look(self, sources: Collection[Source]) -> bool:
        """Read from Postgres what was revoked. Return whether that may end connections of present peers.

        `sources`: the keys and secrets behind the present peers' grants.
        """
        self._ended = await _thread().run(keys.list_ended, sources, timezone.now()) if sources else set()
        await self.refresh()
        self._renewing = _in_force(self._announced)
        self._announced = []
        is_due, self._has_changed = self._has_changed, False
        return is_due or bool(self._ended) or len(self._renewing) > 0

    async def refresh(self, *, older_than: float = 0.0) -> None:
        """Read new revocations, unless they were read within `older_than` seconds. Concurrent calls share one query."""
        if time.monotonic() - self._read_at < older_than:
            return
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read(), name="revocations")
            self._reading.add_done_callback(_retrieve)
        await asyncio.shield(self._reading)

    def judge(self, grant: Grant) -> ChatError | None:
        """Return the error that ends a grant, None if it is still valid."""
        if grant.source in self._ended:
            if grant.token_id is None:
                return ChatError(Code.KEY_REVOKED, "The key behind this connection was revoked, or has a new secret.")
            return ChatError(Code.TOKEN_REVOKED, "The key that the token was made with was revoked or rotated.")
        if self._book.ends(grant):
            return ChatError(Code.TOKEN_REVOKED, "The token was revoked. Request a new one.")
        return None

    def wants_renewal(self, grant: Grant) -> bool:
        """Return whether the last look found that a peer's token will end soon, so that it should get another."""
        return self._renewing.ends(grant)

    async def _read(self) -> None:
        asked_at = time.monotonic()
        is_full = self._last is None or asked_at - self._loaded_at > RELOAD_SECONDS
        book, last = (RevocationBook(), 0) if is_full else (self._book, self._last or 0)
        # After a failure all are read again: the next answer may come from another server than the last.
        self._last = None
        found: list[RevokedTokens] = []
        while page := (await self._next_page(book, last)):
            found += page[0]
            last = page[1]
        if is_full:
            self._book, self._loaded_at = book, asked_at
        self._announced += [ended for ended in found if ended.starts_at > asked_at]
        self._has_changed |= book.advance(asked_at) or bool(found)
        self._last, self._read_at = last, asked_at

    async def _next_page(self, book: RevocationBook, last: int) -> tuple[list[RevokedTokens], int] | None:
        """Add the next page of revocations to a book. Pages let the event loop do other work in between."""
        found, last = await _thread().run(self._read_after, last, PAGE)
        now = time.monotonic()
        for ended in found:
            book.add(ended, now)
        return (found, last) if found else None


def _in_force(announced: Sequence[RevokedTokens]) -> RevocationBook:
    book = RevocationBook()
    for ended in announced:
        book.add(ended, ended.starts_at)
    return book


def _retrieve(task: asyncio.Task[None]) -> None:
    """Retrieve a task's exception, or asyncio logs it as never retrieved. Callers of `refresh` receive it too."""
    if not task.cancelled():
        task.exception()


@cache
def _thread() -> SingleThread:
    # A thread of its own: revoked tokens must end in time, however busy the other threads are.
    return SingleThread("endings")


_endings: WeakKeyDictionary[asyncio.AbstractEventLoop, Endings] = WeakKeyDictionary()


def of_this_loop() -> Endings:
    """Return the Endings of the running event loop."""
    loop = asyncio.get_running_loop()
    endings = _endings.get(loop)
    if endings is None:
        endings = _endings[loop] = Endings()
    return endings
