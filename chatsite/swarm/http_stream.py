"""A keep-alive HTTP connection with requests pipelined on it."""

from __future__ import annotations

from typing import Protocol

from chatsite.swarm.responses import NotHttp, Response, split_response
from chatsite.swarm.stream import Poller, Stream


class Asker(Protocol):
    """Who sends the requests."""

    def answered(self, response: Response) -> None:
        """Take the answer to the oldest request that has none."""

    def ended(self, reason: str, retry_after: float | None = None) -> None:
        """The connection is gone; it was not closed from here."""


class HttpStream(Stream):
    """One connection; `send` takes whole requests."""

    __slots__ = ("_asker", "_rest")

    def __init__(self, poller: Poller, asker: Asker) -> None:
        self._asker = asker
        self._rest = b""
        super().__init__(poller, b"")

    def got(self, data: bytes) -> None:
        """Read answers."""
        self._rest += data
        try:
            while (found := split_response(self._rest)) is not None:
                response, self._rest = found
                self._asker.answered(response)
        except NotHttp as error:
            self.end(str(error))

    def lost(self, reason: str, retry_after: float | None = None) -> None:
        """See Stream."""
        self._asker.ended(reason, retry_after)
