"""Reads the plain request for a WebSocket. Pure: bytes in, an Upgrade out.

Only the plain case is read here, which is what browsers and SDKs send. Whatever is unusual, doubtful or wrong is not
judged here: Twisted, Daphne and autobahn read it again, at ten times the cost, and give the answer.
"""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass
from hashlib import sha1

HEAD_END = b"\r\n\r\n"
HEAD_MAX_BYTES = 16_384  # as much as Twisted reads
MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
VERSION = b"13"
# No fragment, no blank, no percent sign and nothing beyond ASCII in the path; the query may hold any visible ASCII.
REQUEST_LINE = re.compile(rb"GET (/[A-Za-z0-9/._~:@!$&'()*+,;=-]*)(?:\?([!-\"$-~]*))? HTTP/1\.1")
HEADER = re.compile(rb"([A-Za-z0-9!#$%&'*+.^`|~-]+):[ \t]*([\t -~\x80-\xff]*)")
KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")
ORIGIN = re.compile(rb"(?:null|https?://[A-Za-z0-9.\[\]-]+(?::[0-9]{1,5})?)", re.IGNORECASE)
ONCE = frozenset({b"host", b"upgrade", b"connection", b"sec-websocket-key", b"sec-websocket-version", b"origin"})
# Headers that change how a request is read; autobahn and Daphne judge such requests.
UNUSUAL = frozenset(
    {b"content-length", b"transfer-encoding", b"sec-websocket-protocol", b"expect", b"daphne-root-path"}
)


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A request for a WebSocket: the parts that an application may ask for, and the response that accepts it."""

    path: bytes
    query: bytes
    headers: list[tuple[bytes, bytes]]
    response: bytes  # accepts the request

    def scope(self, client: list[object], server: list[object]) -> dict[str, object]:
        """Return the ASGI scope."""
        return {
            "type": "websocket",
            "asgi": {"version": "3.0"},
            "path": self.path.decode("ascii"),
            "raw_path": self.path,
            "root_path": "",
            "headers": self.headers,
            "query_string": self.query,
            "client": client,
            "server": server,
            "subprotocols": [],
        }


def read_upgrade(head: bytes) -> Upgrade | None:
    """Return the Upgrade of a whole head (without its empty line), None unless it is a plain WebSocket request."""
    first, *lines = head.split(b"\r\n")
    line = REQUEST_LINE.fullmatch(first)
    if line is None or b"pgrade" not in head:
        return None
    found: dict[bytes, bytes] = {}
    headers: list[tuple[bytes, bytes]] = []
    for text in lines:
        header = HEADER.fullmatch(text)
        if header is None:
            return None
        name, value = header[1].lower(), header[2].rstrip(b" \t")
        if name in UNUSUAL or (name in found and name in ONCE):
            return None
        found[name] = value
        headers.append((name, value))
    return Upgrade(line[1], line[2] or b"", headers, _accept(found[b"sec-websocket-key"])) if _is_plain(found) else None


def _is_plain(found: dict[bytes, bytes]) -> bool:
    return (
        b"host" in found
        and found.get(b"upgrade", b"").lower() == b"websocket"
        and b"upgrade" in [part.strip() for part in found.get(b"connection", b"").lower().split(b",")]
        and found.get(b"sec-websocket-version") == VERSION
        and KEY.fullmatch(found.get(b"sec-websocket-key", b"")) is not None
        and ORIGIN.fullmatch(found.get(b"origin", b"null")) is not None
    )


def _accept(key: bytes) -> bytes:
    answer = b64encode(sha1(key + MAGIC, usedforsecurity=False).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + answer + b"\r\n\r\n"
    )
