"""What ended of keys and tokens, as one process knows it: the door that rooms uses (ROOMS_ENDINGS)."""

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

# The gateway looks twice a second; who is let in between the two waits for no query.
FRESH_SECONDS = 0.75
# All are read again: those that have expired go, and a database that was restored is believed.
RELOAD_SECONDS = 3600.0
PAGE = 2000

ReadRevocations = Callable[[int, int], tuple[list[RevokedTokens], int]]


class Endings:
    """Revoked keys, rotated secrets and revoked tokens. One an event loop; only the database is asked in a thread."""

    def __init__(self, read: ReadRevocations = revocations.read_after) -> None:
        self._read_after = read
        self._book = RevocationBook()
        self._last: int | None = None  # id of the last revocation that was read; None: read all
        self._read_at = self._loaded_at = -RELOAD_SECONDS
        self._reading: asyncio.Task[None] | None = None
        self._ended: set[Source] = set()
        self._has_changed = False
        self._announced: list[RevokedTokens] = []  # not in force yet; found since the last look
        self._renewing = RevocationBook()  # the same, as if they were in force, for the walk after a look

    @property
    def held(self) -> int:
        """How many revocations are known."""
        return len(self._book)

    async def look(self, sources: Collection[Source]) -> bool:
        """Ask the database what ended. Return whether that may concern peers that were let in before.

        `sources`: where they came from.
        """
        self._ended = await _thread().run(keys.list_ended, sources, timezone.now()) if sources else set()
        await self.refresh()
        self._renewing = _in_force(self._announced)
        self._announced = []
        is_due, self._has_changed = self._has_changed, False
        return is_due or bool(self._ended) or len(self._renewing) > 0

    async def refresh(self, *, older_than: float = 0.0) -> None:
        """Read what was revoked since, unless it was read within so many seconds. Who asks meanwhile shares it."""
        if time.monotonic() - self._read_at < older_than:
            return
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read(), name="revocations")
            self._reading.add_done_callback(_retrieve)
        await asyncio.shield(self._reading)

    def judge(self, grant: Grant) -> ChatError | None:
        """Return why what a peer was let in by is no longer good, None if it is."""
        if grant.source in self._ended:
            if grant.token_id is None:
                return ChatError(Code.KEY_REVOKED, "The key behind this connection was revoked, or has a new secret.")
            return ChatError(Code.TOKEN_REVOKED, "The key that the token was made with was revoked or rotated.")
        if self._book.ends(grant):
            return ChatError(Code.TOKEN_REVOKED, "The token was revoked. Request a new one.")
        return None

    def wants_renewal(self, grant: Grant) -> bool:
        """Tell whether a peer's token was found, at the last look, to end soon: it has time to get another."""
        return self._renewing.ends(grant)

    async def _read(self) -> None:
        asked_at = time.monotonic()
        is_full = self._last is None or asked_at - self._loaded_at > RELOAD_SECONDS
        book, last = (RevocationBook(), 0) if is_full else (self._book, self._last or 0)
        # After a failure all are read: the next answer may come from another server than the last.
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
        """Add the next revocations to a book. A page at a time, so that the loop has its turn."""
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
    """Look at a task's error, so that nobody is told that nobody did: who waits for the task gets it."""
    if not task.cancelled():
        task.exception()


@cache
def _thread() -> SingleThread:
    # Its own: however busy all others are, a revoked token ends in time.
    return SingleThread("endings")


_endings: WeakKeyDictionary[asyncio.AbstractEventLoop, Endings] = WeakKeyDictionary()


def of_this_loop() -> Endings:
    """Return what the running loop knows."""
    loop = asyncio.get_running_loop()
    endings = _endings.get(loop)
    if endings is None:
        endings = _endings[loop] = Endings()
    return endings
