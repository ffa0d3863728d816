"""HTTP requests and responses as plain values."""

from __future__ import annotations

from dataclasses import dataclass

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """A whole request. Header names are lower-case, in the order and number in which they came."""

    method: str
    target: str  # path and query as they stood in the request line, still percent-encoded
    headers: Headers
    body: bytes = b""
    protocol: str = "HTTP/1.1"
    source_ip: str = ""

    @property
    def path(self) -> str:
        """The target up to its query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """What follows the first question mark, or an empty string."""
        return self.target.partition("?")[2]

    def header(self, name: str) -> str:
        """The first value of a header by its lower-case name, or an empty string."""
        return next((value for key, value in self.headers if key == name), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpResponse:
    """A whole response; the server adds `content-length`."""

    status: int
    headers: Headers = ()
    body: bytes = b""
