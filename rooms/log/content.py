"""The two shapes of a message inside the server, without its state: what it says, and who says it where. Pure.

A `Draft` is what an author sent, frozen; reviewers see it. A `rooms.log.rows.Row` is the same message with its state,
as the table has it. Both are `Authored`, and both hold their `Content`.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """The words of a message: its name, data and extras. Either text or binary is set, or neither."""

    name: str | None = None
    text: str | None = None
    binary: bytes | None = None
    encoding: str | None = None
    extras: dict[str, Any] | None = None

    @property
    def data(self) -> str | bytes | None:
        """What the wire calls data."""
        return self.text if self.binary is None else self.binary


class Authored(msgspec.Struct, kw_only=True):
    """The author of a message, its room and its content."""

    room_id: int
    message_id: str  # the public id: a second message with it in the same room is the first one, repeated
    author: str  # messages of one author in one room are published in order
    client_id: str | None
    connection_id: str | None
    content: Content
    origin: str = ""  # the gateway whose author waits for the outcome


# mypy takes msgspec's structs for dataclasses, which forbid a frozen one below one that is not; msgspec allows it.
class Draft(Authored, frozen=True, kw_only=True):  # type: ignore[misc]
    """A message as its author sent it, checked for shape and capability; reviewers see it so.

    Where a reviewer is asked again after one of its steps let the message pass, `passed` is that step, and `content`
    what earlier reviewers made of it.
    """

    room: str
    accepted_ms: int = 0  # milliseconds since the epoch; 0 before it is accepted
    passed: str = ""


def size_of(content: Content) -> int:
    """Return the size of name, data and extras in bytes, as the public limit counts it (TM6)."""
    size = bytes_of(content.name) + bytes_of(content.text) + len(content.binary or b"")
    return size + (len(msgspec.json.encode(content.extras)) if content.extras else 0)


def bytes_of(text: str | None) -> int:
    """Return the size of a text in UTF-8, 0 for none."""
    if text is None:
        return 0
    return len(text) if text.isascii() else len(text.encode())
