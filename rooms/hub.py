"""The fan-out of one room in one gateway: a tail of the log, and members as cursors on it.

A member in step gets, in each pass, the very same bytes as all others. One whose socket is full is lagging: it
keeps its cursor and catches up, from the tail in memory, once its socket is writable again. There is no queue
per member anywhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence

from rooms.directory import RoomRef
from rooms.log import Entry, Tail
from rooms.reader import Reader
from rooms.serials import encode as encode_serial
from rooms.sockets import Batch, Encoding, Socket
from rooms.wire import Action, ProtocolMessage, encode, for_format

PASS_BUDGET_SECONDS = 0.005  # then the loop has its turn, so that accepts and heartbeats stay prompt
PASS_CHUNK_MEMBERS = 128
BATCH_MAX_BYTES = 262_144  # what one write carries at most, and so what a lagging member keeps at most
CACHED_BATCHES = 16


class Member:
    """One connection's place in one room. `position` is its cursor: the last serial that was written to it."""

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
        self.discontinue = discontinue  # tells the client that it misses what lies before a serial
        self.position = 0
        self.replaying = False  # still reading what it missed while away: Postgres may be asked
        self.gone = False


class Hub:
    """One room's members in this process."""

    def __init__(self, room: RoomRef, *, head: int, reader: Reader, memory_bytes: int, pause_seconds: float) -> None:
        self.room = room
        self.tail = Tail(head, max_bytes=memory_bytes)
        self.subscribed = False  # to the Channels group; the gateway retries until it is
        self.delivered = 0  # frames written, for the metrics
        self._loop = asyncio.get_running_loop()
        self._reader = reader
        self._pause_seconds = pause_seconds
        self._in_step: dict[Encoding, dict[Member, None]] = {}
        self._members = 0
        self._written = head  # all members in step have been offered what lies up to here
        self._next_pass: asyncio.Handle | None = None
        self._batches: dict[tuple[Encoding, int, int], Batch] = {}

    @property
    def members(self) -> int:
        """How many connections of this process are in the room."""
        return self._members

    @property
    def lagging(self) -> int:
        """How many of them are not in step at the moment."""
        return self._members - sum(map(len, self._in_step.values()))

    # --- Members come and go -----------------------------------------------------------------------------

    def join(self, member: Member, *, after: int | None) -> None:
        """Let a member receive what comes after a serial; None: what comes from now on. The log is never skipped."""
        self._members += 1
        member.position = self.tail.position if after is None else after
        member.replaying = after is not None
        self.catch_up(member)

    def leave(self, member: Member) -> None:
        """Take a member out. Calling twice is calling once."""
        if not member.gone:
            member.gone = True
            self._members -= 1
            self._in_step.get(member.encoding, {}).pop(member, None)

    # --- The log grows -----------------------------------------------------------------------------------

    def receive(self, entries: Sequence[Entry]) -> None:
        """Take entries of a broadcast, in whatever order, and start a pass if that closed the log's end."""
        if self.tail.add(entries):
            self._grown(entries)

    def fill(self, entries: Sequence[Entry], reaches: int) -> None:
        """Take what Postgres has after the tail's position."""
        if self.tail.fill(entries, reaches):
            self._grown(entries)

    def _grown(self, entries: Sequence[Entry]) -> None:
        if any(entry.wire.action for entry in entries):
            self._batches.clear()  # what was changed or hidden is not sent from memory as it was
        self._schedule()

    def _schedule(self, delay: float = 0.0) -> None:
        if self._next_pass is None and self._members:
            start = self._start_pass
            self._next_pass = self._loop.call_later(delay, start) if delay else self._loop.call_soon(start)
        elif not self._members:
            self._written = self.tail.position

    # --- A pass: one write to each member in step --------------------------------------------------------

    def _start_pass(self) -> None:
        start = self._written
        entries = _of_bounded_size(self.tail.after(start) or [])
        if not entries and self.tail.after(start) is None:
            self._abandon_step(start)
            return
        end = entries[-1].serial if entries else self.tail.position
        self._run_pass(self._steps(start, end, entries), end, self._loop.time(), 0.0)

    def _run_pass(self, steps: Iterator[None], end: int, started: float, spent: float) -> None:
        """Advance a pass for as long as its budget lasts, then let the loop do other things."""
        until = self._loop.time() + PASS_BUDGET_SECONDS
        for _ in steps:
            if self._loop.time() > until:
                self._next_pass = self._loop.call_soon(self._run_pass, steps, end, started, spent)
                return
        took = self._loop.time() - started
        self._written = end
        self._next_pass = None
        if self._written < self.tail.position:
            # What arrives during a pass and as long a pause after it is gathered into the next write.
            self._schedule(min(took, self._pause_seconds))
        else:
            self._rest(min(took, self._pause_seconds))

    def _rest(self, seconds: float) -> None:
        """Hold the next pass back for a moment even if nothing waits yet: busy rooms gather, idle ones do not."""
        if seconds >= 0.001:
            self._next_pass = self._loop.call_later(seconds, self._end_rest)

    def _end_rest(self) -> None:
        self._next_pass = None
        if self._written < self.tail.position:
            self._schedule()

    def _steps(self, start: int, end: int, entries: Sequence[Entry]) -> Iterator[None]:
        authors = {entry.wire.connection_id for entry in entries}
        for encoding, members in list(self._in_step.items()):
            batch = self._batch(encoding, start, end, entries)
            for place, member in enumerate(list(members)):
                if place % PASS_CHUNK_MEMBERS == PASS_CHUNK_MEMBERS - 1:
                    yield
                if member.position == start and (member.echo or member.connection_id not in authors):
                    data = batch
                elif member.gone or member.position >= end:
                    continue
                else:
                    # From the pass's own entries: the tail may have dropped some of them since it began.
                    left = [entry for entry in entries if entry.serial > member.position]
                    data = self._batch_for(member, member.position, end, left)
                if member.gone:
                    continue
                if not data or member.write(data):
                    member.position = end
                    self.delivered += len(entries)
                else:
                    self._lag(member)

    def _abandon_step(self, start: int) -> None:
        """The log outran the tail's memory between two passes: each member goes on by its own cursor."""
        self._next_pass = None
        self._written = self.tail.position
        for members in list(self._in_step.values()):
            for member in list(members):
                self._lag(member)

    # --- Lagging members ---------------------------------------------------------------------------------

    def _lag(self, member: Member) -> None:
        self._in_step[member.encoding].pop(member, None)
        member.socket.on_writable(lambda: self.catch_up(member))

    def catch_up(self, member: Member) -> None:
        """Write what the member has not had, as much as its socket takes; in step again once it has all."""
        while not member.gone:
            if member.position >= self.tail.position:
                member.replaying = False
                self._in_step.setdefault(member.encoding, {})[member] = None
                return
            entries = self.tail.after(member.position)
            if entries is None and member.replaying:
                self._reader.read(self.room, member.position, lambda found: self._replay(member, *found))
                return
            if entries is None:
                member.position = self.tail.position
                member.discontinue(member.position)
                continue
            entries = _of_bounded_size(entries)
            if not self._offer(member, entries, entries[-1].serial if entries else self.tail.position):
                return

    def _replay(self, member: Member, entries: Sequence[Entry], reaches: int) -> None:
        """Go on with a member whose missed messages were read from Postgres."""
        if member.gone:
            return
        if reaches <= member.position:
            # Postgres has no more although the log went on: the room was deleted. Asking again would never end.
            member.replaying = False
        for part in _parts_of_bounded_size(entries):
            if not self._offer(member, part, part[-1].serial):
                return
        member.position = max(member.position, reaches)
        self.catch_up(member)

    def _offer(self, member: Member, entries: Sequence[Entry], end: int) -> bool:
        data = self._batch_for(member, member.position, end, entries)
        if data and not member.write(data):
            member.socket.on_writable(lambda: self.catch_up(member))
            return False
        member.position = end
        self.delivered += len(entries)
        return True

    # --- Encoding ----------------------------------------------------------------------------------------

    def _batch_for(self, member: Member, start: int, end: int, entries: Sequence[Entry]) -> Batch:
        if not member.echo and any(entry.wire.connection_id == member.connection_id for entry in entries):
            others = [entry for entry in entries if entry.wire.connection_id != member.connection_id]
            return member.encoding.join([self._piece(member.encoding, entry) for entry in others])
        return self._batch(member.encoding, start, end, entries)

    def _batch(self, encoding: Encoding, start: int, end: int, entries: Sequence[Entry]) -> Batch:
        key = (encoding, start, end)
        batch = self._batches.get(key)
        if batch is None:
            batch = encoding.join([self._piece(encoding, entry) for entry in entries])
            self._batches[key] = batch
            while len(self._batches) > CACHED_BATCHES:
                del self._batches[next(iter(self._batches))]
        return batch

    def _piece(self, encoding: Encoding, entry: Entry) -> bytes:
        message = ProtocolMessage(
            action=Action.MESSAGE,
            channel=self.room.name,
            channel_serial=encode_serial(self.room.epoch, entry.serial),
            connection_id=entry.wire.connection_id,
            timestamp=entry.wire.timestamp,
            messages=[for_format(entry.wire, encoding.format)],
        )
        return encoding.piece(encode(message, encoding.format))


def _of_bounded_size(entries: Sequence[Entry]) -> list[Entry]:
    """Return the first entries that fit into one write; at least one."""
    size = 0
    taken: list[Entry] = []
    for entry in entries:
        size += entry.size
        if taken and size > BATCH_MAX_BYTES:
            break
        taken.append(entry)
    return taken


def _parts_of_bounded_size(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    rest = list(entries)
    while rest:
        part = _of_bounded_size(rest)
        yield part
        rest = rest[len(part) :]
