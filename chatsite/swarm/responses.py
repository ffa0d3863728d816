"""HTTP responses as a load tool meets them: a refusal to open a WebSocket, and a peer's answers to POSTs. Pure."""

from __future__ import annotations

from typing import NamedTuple

END_OF_HEADERS = b"\r\n\r\n"
MAX_HEADER_BYTES = 65_536
MAX_WAIT_SECONDS = 60.0  # no server makes a member wait longer than this


class Response(NamedTuple):
    """One whole response without its body."""

    status: int
    reason: str
    retry_after: float | None  # seconds


class NotHttp(Exception):
    """The peer does not speak HTTP as expected."""


def head_of(data: bytes) -> tuple[Response, dict[str, str], bytes] | None:
    """Return status, headers by lower-case name, and what follows; None while they are not whole. Raises NotHttp."""
    head, end, rest = data.partition(END_OF_HEADERS)
    if not end:
        if len(head) > MAX_HEADER_BYTES:
            raise NotHttp("the server's headers do not end")
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _, status = first.partition(" ")
    if not version.startswith("HTTP/") or not status[:3].isdecimal():
        raise NotHttp(f"the server answered {first[:100]!r} instead of HTTP")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    response = Response(int(status[:3]), status[4:100], _seconds(headers.get("retry-after", "")))
    return response, headers, rest


def split_response(data: bytes) -> tuple[Response, bytes] | None:
    """Return the first response and what follows its body, None while it is not whole. Raises NotHttp."""
    found = head_of(data)
    if found is None:
        return None
    response, headers, rest = found
    size = headers.get("content-length", "0")
    if "transfer-encoding" in headers or not size.isdecimal():
        raise NotHttp("the server's answer has no length that the swarm understands")
    return (response, rest[int(size) :]) if len(rest) >= int(size) else None


def _seconds(text: str) -> float | None:
    """Return a Retry-After in seconds; a date is not worth the reading, and counts as none."""
    return min(float(text), MAX_WAIT_SECONDS) if text.isdecimal() else None
