"""The result of a call to a target: an answer, or a failure. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

# The headers of an answer that are kept.
KEPT_HEADERS = ("retry-after", "location", "x-amz-function-error", "x-amzn-errortype", "x-amzn-requestid")


class CallFailed(Exception):
    """The call got no usable answer. The text is for the rule's owner; `is_final`: another attempt would fail too."""

    def __init__(self, text: str, *, is_final: bool = False) -> None:
        super().__init__(text)
        self.is_final = is_final


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer of a target. `headers`: those of KEPT_HEADERS, in lower case; `problem`: why it counts as failed."""

    status: int
    body: bytes = field(repr=False)
    retry_after: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    problem: str = ""


def in_words(seconds: float) -> str:
    """Return a time limit in words, rounded: the rest of a budget has many digits."""
    shown = max(round(seconds, 1), 0.1)
    return f"{shown:g} second{'' if shown == 1 else 's'}"


def explain(answer: Answer) -> str:
    """Return a sentence about an unsuccessful answer, for the rule's owner."""
    if answer.problem:
        return answer.problem
    if 300 <= answer.status < 400:
        return (
            f"The endpoint answered HTTP {answer.status}, a redirect{_to(answer.headers.get('location', ''))}. "
            "Redirects are not followed: give the rule the address where they end."
        )
    return f"The endpoint answered HTTP {answer.status}."


def _to(location: str) -> str:
    """Return the host of a redirect, without path and query, which may hold secrets."""
    try:
        host = urlsplit(location).hostname
    except ValueError:
        host = None
    return f" to {host[:200]}" if host and host.isprintable() else ""
