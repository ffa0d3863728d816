"""Which events a rule lets through: by room, by author, and as a sample. Nothing here asks the database."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any

import re2

from integrations.models import IntegrationRule
from rooms.errors import ChatError, Code

FILTER_MAX_CHARACTERS = 500
RE2_MAX_MEMORY_BYTES = 1_048_576
ANSWERS_KEPT = 10_000  # the same rooms and authors are asked about again and again


@lru_cache(maxsize=ANSWERS_KEPT)
def matches(pattern: str, value: str) -> bool:
    """Tell whether a filter lets a name through: found anywhere in it; empty: every name."""
    return not pattern or _compiled(pattern).search(value) is not None


def lets_pass(rule: IntegrationRule, *, room: str, client_id: str | None, key: str) -> bool:
    """Tell whether an event passes a rule's filters. `key` is what it is sampled by.

    `client_id` is its author's, "" for an author without one, None for events that nobody wrote: every author filter
    lets these pass.
    """
    return (
        matches(rule.room_filter, room)
        and (client_id is None or matches(rule.author_filter, client_id))
        and is_sampled(rule, key)
    )


def is_sampled(rule: IntegrationRule, key: str) -> bool:
    """Tell whether a rule's sample holds an event: the same answer for the same key, whoever asks and when.

    Samples of two rules are independent. All events of a message share its id as their key.
    """
    if rule.sample_percent >= 100:
        return True
    drawn = hashlib.blake2b(f"{rule.pk}:{key}".encode(errors="replace"), digest_size=4).digest()
    return int.from_bytes(drawn) < rule.sample_percent / 100 * 2**32


def check(pattern: str, label: str = "room filter") -> None:
    """Raise ChatError 40035 with RE2's reason for a filter that cannot be used."""
    if len(pattern) > FILTER_MAX_CHARACTERS:
        raise ChatError(Code.INVALID_FILTER, f"The {label} is longer than {FILTER_MAX_CHARACTERS} characters.")
    if "\0" in pattern:
        raise ChatError(Code.INVALID_FILTER, f"The {label} holds a NUL character.")
    try:
        _compiled(pattern)
    except (re2.error, UnicodeError) as error:
        reason = error.args[0] if error.args else "not valid"
        reason = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise ChatError(
            Code.INVALID_FILTER, f"The {label} is not a regular expression that RE2 understands: {reason}"[:500]
        ) from None


@lru_cache(maxsize=1_000)
def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.max_mem = RE2_MAX_MEMORY_BYTES
    options.log_errors = False
    return re2.compile(pattern, options=options)
