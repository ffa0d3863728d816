"""Keeps the connections of one gateway alive, ends revoked ones, and sends all away before the gateway stops.

No connection has a task or a timer of its own for this: one task goes over all of them, a few at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Protocol

from rooms import faults
from rooms.access.authentication import endings
from rooms.access.grants import Grant
from rooms.errors import ChatError, Code

CONNECTION_MAX_IDLE_SECONDS = 15  # a client gets something at least this often: the public service's figure

SLOTS = 60
# The duration of a round, as a share of the idle limit that clients know. A client that got nothing for a whole round
# is written to, so none waits longer than two rounds; the rest of the limit is for the bytes to arrive.
ROUND_SHARE = 0.4
SLICE_SECONDS = 0.002  # of work before the loop has its turn
STEP_SECONDS = 0.05  # between two steps of draining
LISTEN_SECONDS = 1.0  # for which a connection that must leave may go on publishing
ANSWER_SECONDS = 5.0  # longest wait for the answers to those publishes


class Connection(Protocol):
    """The methods that a gateway calls on each connection."""

    connection_id: str
    grant: Grant

    @property
    def is_idle(self) -> bool:
        """Whether none of its publishes waits for its ACK or NACK."""

    def keep_alive(self) -> bool:
        """Send a heartbeat if nothing was sent since the last call. Return whether it did."""

    def ignore_publishes(self) -> None:
        """Ignore publishes from now on: the client repeats them on its next connection."""

    def ask_for_token(self) -> None:
        """Ask the client for another token, since its own ends soon."""

    def end(self, error: ChatError) -> None:
        """Send the client an error, and close."""


class Connections:
    """The connections of one gateway, by id. `idle_seconds` is the longest silence towards a client."""

    def __init__(self, *, idle_seconds: float) -> None:
        self.kept_alive = 0  # signs of life sent, for the metrics
        self.sent_away = 0  # by `drain`
        self.revoked = 0  # ended before their time
        self._held: dict[str, Connection] = {}
        self._slots: list[dict[str, Connection]] = [{} for _ in range(SLOTS)]
        self._pause = idle_seconds * ROUND_SHARE / SLOTS

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Connection]:
        return iter(list(self._held.values()))

    def register(self, connection: Connection) -> None:
        """Add a connection, and end one with the same id: it is the same client's, on a socket that died."""
        former = self._held.get(connection.connection_id)
        self._held[connection.connection_id] = connection
        self._slot(connection)[connection.connection_id] = connection
        if former is not None and former is not connection:
            former.end(ChatError(Code.DISCONNECTED, "The connection was resumed on another socket."))

    def unregister(self, connection: Connection) -> None:
        """Remove a connection."""
        if self._held.get(connection.connection_id) is connection:
            del self._held[connection.connection_id]
            self._slot(connection).pop(connection.connection_id, None)

    def _slot(self, connection: Connection) -> dict[str, Connection]:
        return self._slots[hash(connection.connection_id) % SLOTS]

    # --- Keeping alive -----------------------------------------------------------------------------------

    async def keep_alive(self) -> None:
        """Call `keep_alive` of each connection once a round, evenly spread over the round. Runs until cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            for slot in self._slots:
                due = max(due + self._pause, loop.time())
                await asyncio.sleep(due - loop.time())
                async for connection in _in_slices(slot.values()):
                    if connection.connection_id in slot:
                        self._keep_alive(connection)

    def _keep_alive(self, connection: Connection) -> None:
        try:
            self.kept_alive += connection.keep_alive()
        except Exception:  # one that fails must not silence all others
            faults.record("keeping a connection alive")

    # --- Ending ------------------------------------------------------------------------------------------

    async def end_revoked(self) -> None:
        """End the connections whose key or token was revoked, by two small queries, however many connections there are.

        Goes over all connections only after a revocation.
        """
        sources = {connection.grant.source for connection in self._held.values()}
        known = endings()
        if await known.look(sources):
            async for connection in _in_slices(self):
                self._end_if(connection, known.judge(connection.grant))
                if known.wants_renewal(connection.grant):
                    connection.ask_for_token()

    def recheck(self, connection: Connection) -> None:
        """End a connection if its key or token is revoked.

        Call it once the connection is registered with its grant: a revocation since the grant was checked is known by
        now, or the next `end_revoked` goes over this connection too.
        """
        self._end_if(connection, endings().judge(connection.grant))

    def _end_if(self, connection: Connection, error: ChatError | None) -> None:
        if error is not None and self._held.get(connection.connection_id) is connection:
            self.revoked += 1
            connection.end(error)

    async def drain(self, seconds: float) -> None:
        """Send all connections away, evenly spread over so many seconds, each after the answers to its publishes.

        Call it when no new ones come; late ones are sent away at the end. Its time is bounded: publishes are ignored
        after LISTEN_SECONDS, and answers are waited for ANSWER_SECONDS.
        """
        loop = asyncio.get_running_loop()
        waiting = list(self)
        began, total = loop.time(), len(waiting)
        leaving: list[tuple[float, Connection]] = []
        while waiting or leaving:
            now = loop.time()
            leaving = [(since, each) for since, each in leaving if not self._has_left(each, now - since)]
            share = min(1.0, (now - began + STEP_SECONDS) / seconds) if seconds > 0 else 1.0
            due, waiting = _split(waiting, round(total * share) - (total - len(waiting)))
            leaving += [(now, connection) for connection in due]
            # Each stays for one step at least, for publishes that are on their way here.
            await asyncio.sleep(STEP_SECONDS)
        for connection in self:
            self._has_left(connection, LISTEN_SECONDS + ANSWER_SECONDS)

    def _has_left(self, connection: Connection, after: float) -> bool:
        """End a connection unless it must stay a while. Return whether it is gone. SDKs come back at once (RTN15h3)."""
        if self._held.get(connection.connection_id) is not connection:
            return True
        if after >= LISTEN_SECONDS:
            connection.ignore_publishes()
        if not connection.is_idle and after < LISTEN_SECONDS + ANSWER_SECONDS:
            return False
        connection.end(ChatError(Code.DISCONNECTED, "This server is being restarted; connect again.", status=503))
        self.sent_away += 1
        return True


def _split(connections: list[Connection], count: int) -> tuple[list[Connection], list[Connection]]:
    count = max(count, 0)
    return connections[:count], connections[count:]


async def _in_slices(connections: Iterable[Connection]) -> AsyncIterator[Connection]:
    """Yield connections, and give the loop a turn after each slice of time."""
    loop = asyncio.get_running_loop()
    until = loop.time() + SLICE_SECONDS
    for connection in list(connections):
        yield connection
        if loop.time() > until:
            await asyncio.sleep(0)
            until = loop.time() + SLICE_SECONDS
