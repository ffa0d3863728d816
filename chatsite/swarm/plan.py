"""What a load run is asked to do, and how it is split among processes. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, urlencode, urlsplit

from rooms.wire import Format

MEMBERS_PER_PROCESS = 15_000  # a process may hold 20,000 descriptors on many systems
LOOPBACK_SOURCES = 200  # 127.0.0.2 and on: one source address has 28,000 ports


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One run. Sizes are bytes of message data, rates messages a second of all publishers together."""

    url: str
    key: str
    room: str
    run: str  # tells this run's messages from other ones in the room
    members: int
    publishers: int
    rate: float
    seconds: float
    size: int
    processes: int
    format: Format
    connect_seconds: float  # members that are not attached by then stay out
    settle_seconds: float  # how long the last messages may take to arrive

    @property
    def total(self) -> int:
        """How many messages are published."""
        return round(self.rate * self.seconds)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the server."""
        parts = urlsplit(self.url)
        return parts.hostname or "127.0.0.1", parts.port or 80

    def path(self, *, client_id: str | None = None) -> str:
        """Return path and query of the WebSocket."""
        query = {"key": self.key, "format": self.format.value, "v": "3"}
        if client_id is not None:
            query["clientId"] = client_id
        return "/?" + urlencode(query, quote_via=quote)

    def shares(self) -> list[int]:
        """Return how many members each process holds."""
        count = max(self.processes, -(-self.members // MEMBERS_PER_PROCESS))
        each, rest = divmod(self.members, count)
        return [each + (place < rest) for place in range(count)]

    def source(self, place: int) -> str | None:
        """Return the address that a process connects from; None: the system's choice."""
        return f"127.0.0.{2 + place % LOOPBACK_SOURCES}" if self.address[0] in ("127.0.0.1", "localhost") else None
