"""A keep-alive HTTP connection with requests pipelined on it."""

from __future__ import annotations

from collections.abc import Callable

from chatsite.swarm.wire.responses import PeerError, Response, split_response
from chatsite.swarm.wire.stream import Owner, Poller, Stream


class HttpStream(Stream):
    """One connection; `send` takes whole requests. `answered` is called with each answer, in the order of requests."""

    __slots__ = ("_answered", "_rest")

    def __init__(self, poller: Poller, owner: Owner, answered: Callable[[Response], None]) -> None:
        self._answered = answered
        self._rest = b""
        super().__init__(poller, owner, b"")

    def got(self, data: bytes) -> None:
        """Read answers."""
        self._rest += data
        try:
            while (found := split_response(self._rest)) is not None:
                response, self._rest = found
                self._answered(response)
        except PeerError as error:
            self.end(str(error))
