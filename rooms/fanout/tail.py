"""Keeps the tail of a room's log in the memory of one process. Pure: no clock, no socket, no database.

A tail has an unbroken run of entries that ends at `position`. Entries that arrive out of order wait in a stash until
the hole before them is filled; repeated ones are dropped.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Sequence

from rooms.fanout.memory import Memory
from rooms.log.entries import Entry, first_within, serial_of

STASH_MAX_ENTRIES = 10_000


class Tail:
    """The last entries of one room, up to `max_bytes` and as far as the `memory` of all rooms together allows."""

    def __init__(self, position: int, *, max_bytes: int, memory: Memory | None = None) -> None:
        self.position = position  # the last serial up to which the log is known without a gap
        self.floor = position  # entries after this serial are in memory
        self.known_head = position  # the highest serial that is known to exist
        self.changes = 0  # the number of edits so far; each replaces an entry of the run
        self._max_bytes = max_bytes
        self._memory = Memory(max_bytes=max_bytes) if memory is None else memory
        self._bytes = 0
        self._entries: deque[Entry] = deque()
        # By message: a burst of edits must not search the whole tail for each.
        self._serials: dict[int, int] = {}
        self._stash: dict[int, Entry] = {}
        self._stash_bytes = 0

    @property
    def bytes_kept(self) -> int:
        """About how many bytes of memory the entries take."""
        return self._bytes

    @property
    def has_hole(self) -> bool:
        """Whether the log is known to have entries that have not arrived."""
        return self.known_head > self.position

    def note_head(self, head: int) -> None:
        """Note that the log reaches to `head`."""
        self.known_head = max(self.known_head, head)

    def add(self, entries: Iterable[Entry]) -> bool:
        """Add entries of a broadcast, in any order. Return whether the position moved."""
        before = self.position
        for entry in entries:
            if entry.serial == self.position + 1:
                self._append(entry, entry.serial)
            elif entry.serial > self.position:
                self.note_head(entry.serial)
                self._stash_away(entry)
        self._unstash()
        return self.position > before

    def _stash_away(self, entry: Entry) -> None:
        """Stash an entry that came too early; above the limits it is dropped, and read from Postgres later."""
        if len(self._stash) < STASH_MAX_ENTRIES and self._stash_bytes + entry.size <= self._max_bytes:
            self._stash_bytes += entry.size - (self._stash[entry.serial].size if entry.serial in self._stash else 0)
            self._stash[entry.serial] = entry

    def fill(self, entries: Sequence[Entry], reaches: int) -> bool:
        """Add the entries that Postgres has after the position, up to `reaches`. Return whether the position moved.

        Serials may be missing inside: an edit moves its message to a later place and leaves the old one empty.
        """
        before = self.position
        for entry in entries:
            if entry.serial > self.position:
                self._append(entry, entry.serial)
        self.position = max(self.position, reaches)
        self.note_head(self.position)
        self._unstash()
        return self.position > before

    def after(self, serial: int, *, max_bytes: int | None = None) -> list[Entry] | None:
        """Return the entries after a serial, in order: all, or the first (at least one) that fit into `max_bytes`.

        None if they are no longer in memory.
        """
        if serial < self.floor:
            return None
        first = bisect_right(self._entries, serial, key=serial_of)
        entries = (self._entries[place] for place in range(first, len(self._entries)))
        return list(entries) if max_bytes is None else first_within(entries, max_bytes)

    def start_of_last(self, count: int) -> int | None:
        """Return the serial after which the last `count` entries come; None if they are not all in memory."""
        if len(self._entries) > count:
            return self._entries[-count - 1].serial
        return self.floor if self.floor == 0 or len(self._entries) == count else None

    def shrink(self) -> int:
        """Drop the older half of the entries and return the freed bytes. See rooms.fanout.memory.Shrinkable."""
        before = self._bytes
        for _ in range((len(self._entries) + 1) // 2):
            self._drop_oldest()
        return before - self._bytes

    def _append(self, entry: Entry, position: int) -> None:
        before = self._bytes
        if entry.wire.action:
            self.changes += 1
            self._forget(entry.pk)
        self._entries.append(entry)
        self._serials[entry.pk] = entry.serial
        self.position = position
        self.note_head(position)
        self._bytes += entry.size
        while self._bytes > self._max_bytes and len(self._entries) > 1:
            self._drop_oldest()
        self._memory.grew(self, self._bytes - before)

    def _drop_oldest(self) -> None:
        dropped = self._entries.popleft()
        self._bytes -= dropped.size
        self.floor = dropped.serial
        self._serials.pop(dropped.pk, None)

    def _forget(self, pk: int) -> None:
        """Drop the entry of a message from before its change: hidden content must not be sent from memory either."""
        serial = self._serials.pop(pk, None)
        if serial is not None:
            place = bisect_left(self._entries, serial, key=serial_of)
            self._bytes -= self._entries[place].size
            del self._entries[place]

    def _unstash(self) -> None:
        if not self._stash:
            return
        while (entry := self._stash.pop(self.position + 1, None)) is not None:
            self._append(entry, entry.serial)
        self._stash = {serial: entry for serial, entry in self._stash.items() if serial > self.position}
        self._stash_bytes = sum(entry.size for entry in self._stash.values())
