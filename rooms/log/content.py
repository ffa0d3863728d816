"""The shapes of a message inside the server: `Content`, and `Draft` with the author and the room. Pure.

A `Draft` is a message as its author sent it, frozen; reviewers see it. A `rooms.log.rows.Row` is the same message with
its state, as the table has it. Both are `Authored`, and both hold their `Content`.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """The name, data and extras of a message. Its data is `text` or `binary`; both are None for no data."""

    name: str | None = None
    text: str | None = None
    binary: bytes | None = None
    encoding: str | None = None
    extras: dict[str, Any] | None = None

    @property
    def data(self) -> str | bytes | None:
        """The data as the wire has it."""
        return self.text if self.binary is None else self.binary


class Authored(msgspec.Struct, kw_only=True):
    """The author of a message, its room and its content."""

    room_id: int
    message_id: str  # the public id: a second message with it in the same room is a repeat of the first
    author: str  # messages of one author in one room are published in order
    client_id: str | None
    connection_id: str | None
    content: Content
    origin: str = ""  # the gateway whose author waits for the outcome


# mypy takes msgspec's structs for dataclasses, which forbid a frozen one below one that is not; msgspec allows it.
class Draft(Authored, frozen=True, kw_only=True):  # type: ignore[misc]
    """A message as its author sent it, checked for shape and capability; reviewers get it.

    A reviewer with several steps gets the draft again after each step that let the message pass: `passed` is that
    step, and `content` holds the changes of earlier reviewers.
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
