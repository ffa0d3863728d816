"""Capabilities of keys and tokens: room patterns, and the operations allowed on their rooms. Pure.

The text form, the wildcards and the canonical order follow the public protocol (features.md, TokenRequest#capability).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from rooms.errors import ChatError, Code

OPERATIONS = frozenset(
    {
        "publish", "subscribe", "history", "presence", "presence-subscribe", "channel-metadata", "stats",
        "push-subscribe", "push-admin", "privileged-headers", "annotation-publish", "annotation-subscribe",
        "message-update-own", "message-update-any", "message-delete-own", "message-delete-any",
        "object-subscribe", "object-publish",
    }
)  # fmt: skip
MAX_PATTERNS = 1000
MAX_TEXT_CHARACTERS = 65_536


@dataclass(frozen=True)
class Capability:
    """The operations allowed for each room pattern; "*" as an operation stands for all of them."""

    patterns: Mapping[str, frozenset[str]]

    @classmethod
    def parse(cls, source: str | Mapping[str, Any]) -> Self:
        """Read a capability from its JSON text or mapping. Raises ChatError 40003 saying what is wrong."""
        if isinstance(source, str):
            source = _load(source)
        if not isinstance(source, Mapping) or not source:
            raise ChatError(Code.INVALID_PARAMETER, 'A capability is an object such as {"room": ["publish"]}.')
        if len(source) > MAX_PATTERNS:
            raise ChatError(Code.INVALID_PARAMETER, f"A capability names at most {MAX_PATTERNS} rooms.")
        return cls({pattern: _operations(pattern, listed) for pattern, listed in source.items()})

    def allows(self, room: str, operation: str) -> bool:
        """Return whether the operation is allowed on the room."""
        return any(
            (operation in operations or "*" in operations) and matches(pattern, room)
            for pattern, operations in self.patterns.items()
        )

    def allows_everywhere(self, operation: str) -> bool:
        """Return whether the operation is allowed on all rooms."""
        return any(
            (operation in operations or "*" in operations) and pattern in ("*", "[*]*")
            for pattern, operations in self.patterns.items()
        )

    def allows_any(self, room: str) -> bool:
        """Return whether anything at all is allowed on the room."""
        return any(matches(pattern, room) for pattern in self.patterns)

    def intersect(self, other: Capability) -> Capability:
        """Return the capability of what both allow: the one that a token asks for, and the one of its key."""
        both: dict[str, frozenset[str]] = {}
        for mine, my_operations in self.patterns.items():
            for theirs, their_operations in other.patterns.items():
                narrow = narrower(mine, theirs)
                if narrow is not None and (shared := _shared(my_operations, their_operations)):
                    both[narrow] = both.get(narrow, frozenset()) | shared
        return Capability(both)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is allowed."""
        return not self.patterns

    def as_dict(self) -> dict[str, list[str]]:
        """Return the canonical mapping: rooms and operations sorted."""
        return {pattern: sorted(self.patterns[pattern]) for pattern in sorted(self.patterns)}

    def as_text(self) -> str:
        """Return the canonical JSON text."""
        return json.dumps(self.as_dict(), separators=(",", ":"), ensure_ascii=False)


def matches(pattern: str, room: str) -> bool:
    """Return whether a pattern covers a room: "*", the same name, "a:*" for all under a:, "[*]*" for all spaces."""
    if pattern in ("[*]*", room):
        return True
    if pattern == "*":
        return not room.startswith("[")
    if pattern.startswith("[*]"):
        return matches(pattern[3:], room.partition("]")[2] if room.startswith("[") else room)
    segments, parts = pattern.split(":"), room.split(":")
    if segments[-1] == "*":
        return len(parts) >= len(segments) and _same(segments[:-1], parts)
    return len(parts) == len(segments) and _same(segments, parts)


def narrower(one: str, other: str) -> str | None:
    """Return the pattern that covers the rooms of both patterns; None if they have none in common."""
    if matches(one, other):
        return other
    if matches(other, one):
        return one
    return None


def _same(segments: Iterable[str], parts: Iterable[str]) -> bool:
    return all(segment in ("*", part) for segment, part in zip(segments, parts, strict=False))


def _shared(mine: frozenset[str], theirs: frozenset[str]) -> frozenset[str]:
    if "*" in mine:
        return theirs
    if "*" in theirs:
        return mine
    return mine & theirs


def _load(text: str) -> Any:
    if len(text) > MAX_TEXT_CHARACTERS:
        raise ChatError(Code.INVALID_PARAMETER, "The capability is too long.")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ChatError(Code.INVALID_PARAMETER, "The capability is not valid JSON.") from None


def _operations(pattern: str, listed: Any) -> frozenset[str]:
    if not isinstance(pattern, str) or not pattern or "\0" in pattern or not pattern.isprintable():
        raise ChatError(Code.INVALID_PARAMETER, "A capability's room pattern is a text that is not empty.")
    if listed == "*":
        listed = ["*"]
    if not isinstance(listed, list) or not listed or not all(isinstance(name, str) for name in listed):
        raise ChatError(Code.INVALID_PARAMETER, f"The capability of {pattern!r} is a list of operations.")
    unknown = sorted(set(listed) - OPERATIONS - {"*"})
    if unknown:
        raise ChatError(Code.INVALID_PARAMETER, f"Unknown operations for {pattern!r}: {', '.join(unknown)[:200]}.")
    return frozenset({"*"} if "*" in listed else listed)
