"""Writes the log of one room to its members in one gateway: a tail of the log, and members as cursors on it.

In each pass all members in step get the very same bytes. A member whose socket is full is lagging: it keeps its
cursor and catches up, from the tail in memory, once its socket is writable again. There is no queue per member
anywhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rooms.fanout.frames import LAGGING_MAX_BYTES, PASS_MAX_BYTES, FrameCache, FrameEncoder, parts, up_to_shared_end
from rooms.fanout.memory import Memory
from rooms.fanout.passes import Passes
from rooms.fanout.reader import Reader
from rooms.fanout.sockets import Encoding, Socket
from rooms.fanout.tail import Tail
from rooms.log.directory import RoomRef
from rooms.log.entries import Entry

STEP_MEMBERS = 128  # written to in one step of a pass: less than a millisecond
SHORTEST_PAUSE_SECONDS = 0.001


class Member:
    """One connection in one room. `position` is its cursor: the last serial that was written to it."""

    __slots__ = ("connection_id", "discontinue", "echo", "encoding", "gone", "position", "replaying", "socket", "write")

    def __init__(
        self,
        *,
        socket: Socket,
        encoding: Encoding,
        connection_id: str,
        echo: bool,
        discontinue: Callable[[int], None],
    ) -> None:
        self.socket = socket
        self.write = socket.write
        self.encoding = encoding
        self.connection_id = connection_id
        self.echo = echo
        self.discontinue = discontinue  # called with a serial: the client misses entries before it
        self.position = 0
        self.replaying = False  # still getting entries that it missed while away: they may be read from Postgres
        self.gone = False


@dataclass(frozen=True, kw_only=True)
class Resources:
    """The shared resources of one gateway's hubs: the loop's time, memory, and reads of Postgres."""

    passes: Passes
    reader: Reader
    memory: Memory
    batches: FrameCache
    room_memory_bytes: int
    pause_share: float  # pause after a pass, as a share of its duration ...
    pause_seconds: float  # ... and at most this long


class Hub:
    """One room's tail and members in this process."""

    def __init__(self, room: RoomRef, resources: Resources, *, position: int) -> None:
        self.room = room
        self.tail = Tail(position, max_bytes=resources.room_memory_bytes, memory=resources.memory)
        self.subscribed = False  # to the Channels group; the gateway retries until it is
        self.is_closed = False  # it gets no entries any more
        self.delivered = 0  # frames written, for the metrics
        self.pass_seconds = 0.0  # the loop's time that the last pass took
        self._resources = resources
        self._loop = asyncio.get_running_loop()
        self._in_step: dict[Encoding, dict[Member, None]] = {}
        self._by_connection: dict[str, Member] = {}
        self._members = 0
        self._written = position  # all members in step have been offered the entries up to here
        self._is_passing = False
        self._pause: asyncio.TimerHandle | None = None
        self._encoder = FrameEncoder(room, self.tail, resources.batches)

    @property
    def members(self) -> int:
        """The number of this process' connections in the room."""
        return self._members

    @property
    def lagging(self) -> int:
        """The number of members that are not in step."""
        return self._members - sum(map(len, self._in_step.values()))

    # --- Members come and go -----------------------------------------------------------------------------

    def join(self, member: Member, *, after: int | None) -> None:
        """Add a member, which gets all entries after a serial, or new ones only for None."""
        self._members += 1
        self._by_connection[member.connection_id] = member
        member.position = self.tail.position if after is None else after
        member.replaying = after is not None
        self.catch_up(member)

    def leave(self, member: Member) -> None:
        """Remove a member. Calling twice has no further effect."""
        if not member.gone:
            member.gone = True
            self._members -= 1
            self._in_step.get(member.encoding, {}).pop(member, None)
            if self._by_connection.get(member.connection_id) is member:
                del self._by_connection[member.connection_id]

    def close(self) -> None:
        """Release the memory. The hub has no members, and may get none."""
        self.is_closed = True
        self._resources.memory.release(self.tail)

    # --- The log grows -----------------------------------------------------------------------------------

    def receive(self, entries: Sequence[Entry]) -> None:
        """Add entries of a broadcast, in any order, and start a pass if the position moved."""
        if self.tail.add(entries):
            self._grown()

    def fill(self, entries: Sequence[Entry], reaches: int) -> None:
        """Add the entries that Postgres has after the tail's position. A closed hub (still healing) ignores them."""
        if not self.is_closed and self.tail.fill(entries, reaches):
            self._grown()

    def _grown(self) -> None:
        if not self._members:
            self._written = self.tail.position
        self._start_pass()

    # --- A pass: one write to each member in step --------------------------------------------------------

    def _start_pass(self) -> None:
        if self._written < self.tail.position and self._members and not self._is_passing and self._pause is None:
            self._is_passing = True
            self._resources.passes.start(self._timed(self._pass()))

    def _timed(self, steps: Iterator[None]) -> Iterator[None]:
        """Run the steps of a pass, and measure their duration without the steps of other rooms in between."""
        spent, began = 0.0, self._loop.time()
        try:
            for _ in steps:
                spent += self._loop.time() - began
                yield
                began = self._loop.time()
        finally:
            self.pass_seconds = spent + self._loop.time() - began

    def _pass(self) -> Iterator[None]:
        """Write the new entries to all members in step. Those that arrive during the pass or its pause are gathered."""
        started, start = self._loop.time(), self._written
        entries = self.tail.after(start, max_bytes=PASS_MAX_BYTES)
        try:
            if entries is None:
                yield from self._abandon_step()
            else:
                end = entries[-1].serial if entries else self.tail.position
                yield from self._write_to_all(start, end, entries)
                self._written = end
        except Exception:
            yield from self._abandon_step()
            raise
        finally:
            self._is_passing = False
            self._rest(self._loop.time() - started)

    def _rest(self, took: float) -> None:
        """Delay the next pass, even if nothing waits yet: entries of busy rooms gather, idle rooms are not delayed."""
        pause = min(took * self._resources.pause_share, self._resources.pause_seconds)
        if pause >= SHORTEST_PAUSE_SECONDS:
            self._pause = self._loop.call_later(pause, self._end_rest)
        else:
            self._start_pass()

    def _end_rest(self) -> None:
        self._pause = None
        self._start_pass()

    def _write_to_all(self, start: int, end: int, entries: Sequence[Entry]) -> Iterator[None]:
        authors = {entry.wire.connection_id for entry in entries}
        for connection_id in authors:  # authors first: they wait for their messages
            author = self._by_connection.get(connection_id or "")
            if author is not None and author in self._in_step.get(author.encoding, ()):
                self._write_rest(author, end, entries)
        for encoding, members in list(self._in_step.items()):
            batch = self._encoder.of(encoding, start, end, entries)
            everyone = list(members)
            for place in range(0, len(everyone), STEP_MEMBERS):
                if place:
                    yield
                for member in everyone[place : place + STEP_MEMBERS]:
                    if member.position < start and not member.gone:
                        self._lag(member)  # an earlier pass was abandoned before it reached this member
                    elif member.position != start or (not member.echo and member.connection_id in authors):
                        self._write_rest(member, end, entries)
                    elif member.gone:
                        continue
                    elif not batch or member.write(batch):
                        member.position = end
                        self.delivered += len(entries)
                    else:
                        self._lag(member)

    def _write_rest(self, member: Member, end: int, entries: Sequence[Entry]) -> None:
        """Write the entries of a pass that a member has not had. The tail may have dropped some of them already."""
        if not member.gone and member.position < end:
            left = [entry for entry in entries if entry.serial > member.position]
            if not self._offer(member, left, end):
                self._in_step[member.encoding].pop(member, None)

    def _abandon_step(self) -> Iterator[None]:
        """Make all members lag, each by its own cursor: the tail dropped entries that the pass needed."""
        self._written = self.tail.position
        for members in list(self._in_step.values()):
            for place, member in enumerate(list(members)):
                if place % STEP_MEMBERS == STEP_MEMBERS - 1:
                    yield
                if not member.gone:
                    self._lag(member)

    # --- Lagging members ---------------------------------------------------------------------------------

    def _lag(self, member: Member) -> None:
        self._in_step[member.encoding].pop(member, None)
        member.socket.on_writable(lambda: self.catch_up(member))

    def catch_up(self, member: Member) -> None:
        """Write the entries that a member has not had, as far as its socket takes them; then it is in step."""
        while not member.gone:
            if member.position >= self.tail.position:
                member.replaying = False
                self._in_step.setdefault(member.encoding, {})[member] = None
                return
            entries = self.tail.after(member.position, max_bytes=LAGGING_MAX_BYTES)
            if entries is None and member.replaying:
                self._resources.reader.read(self.room, member.position, lambda page: self._replay(member, *page))
                return
            if entries is None:
                member.position = self.tail.position
                member.discontinue(member.position)
                continue
            part = up_to_shared_end(entries)
            if not self._offer(member, part, part[-1].serial if part else self.tail.position):
                return

    def _replay(self, member: Member, entries: Sequence[Entry], reaches: int) -> None:
        """Write a member the missed entries that were read from Postgres."""
        if member.gone:
            return
        if reaches <= member.position:
            # Postgres has no more although the log went on: the room was deleted. Reading again would never end.
            member.replaying = False
        for part in parts(entries):
            if not self._offer(member, part, part[-1].serial):
                return
        member.position = max(member.position, reaches)
        self.catch_up(member)

    def _offer(self, member: Member, entries: Sequence[Entry], end: int) -> bool:
        if not member.echo and any(entry.wire.connection_id == member.connection_id for entry in entries):
            data = self._encoder.without(member.connection_id, member.encoding, entries)
        else:
            data = self._encoder.of(member.encoding, member.position, end, entries)
        if data and not member.write(data):
            member.socket.on_writable(lambda: self.catch_up(member))
            return False
        member.position = end
        self.delivered += len(entries)
        return True
