"""What comes of a call to somebody else's server: an answer, or none. Pure."""

from __future__ import annotations

from dataclasses import dataclass


class CallFailed(Exception):
    """No usable answer came. The text is for the rule's owner; `is_final`: another attempt would fail as well."""

    def __init__(self, text: str, *, is_final: bool = False) -> None:
        super().__init__(text)
        self.is_final = is_final


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What an endpoint said."""

    status: int
    body: bytes
    retry_after: str | None = None
