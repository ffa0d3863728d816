"""The content of a message, and a message before the log has it. Pure."""

from __future__ import annotations

from typing import Any

import msgspec


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """What a message says. Either text or binary is set, or neither."""

    name: str | None = None
    text: str | None = None
    binary: bytes | None = None
    encoding: str | None = None
    extras: dict[str, Any] | None = None

    @property
    def data(self) -> str | bytes | None:
        """What the wire calls data."""
        return self.text if self.binary is None else self.binary


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody wants to publish, checked for shape and capability. `origin` waits for a late verdict."""

    room_id: int
    room: str
    message_id: str
    author: str
    client_id: str | None
    connection_id: str | None
    content: Content
    origin: str = ""


def size_of(content: Content) -> int:
    """Return the size of name, data and extras in bytes, as the public limit counts it (TM6)."""
    size = bytes_of(content.name) + bytes_of(content.text) + len(content.binary or b"")
    return size + (len(msgspec.json.encode(content.extras)) if content.extras else 0)


def bytes_of(text: str | None) -> int:
    """Return the size of a text in UTF-8, 0 for none."""
    if text is None:
        return 0
    return len(text) if text.isascii() else len(text.encode())
