"""The filters of a rule: by room, by author, and by sampling. No queries."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any

import re2

from integrations.models import IntegrationRule
from rooms.errors import ChatError, Code

FILTER_MAX_CHARACTERS = 500
RE2_MAX_MEMORY_BYTES = 1_048_576
ANSWERS_KEPT = 10_000  # the same rooms and authors are matched again and again


@lru_cache(maxsize=ANSWERS_KEPT)
def matches(pattern: str, value: str) -> bool:
    """Return whether a filter matches anywhere in a name. The empty filter matches every name."""
    return not pattern or _compiled(pattern).search(value) is not None


def lets_pass(rule: IntegrationRule, *, room: str, client_id: str | None, key: str) -> bool:
    """Return whether an event passes a rule's filters. Events with the same `key` are sampled together.

    `client_id` is that of the author, "" for an author without one, None for events without an author, which pass
    every author filter.
    """
    return (
        matches(rule.room_filter, room)
        and (client_id is None or matches(rule.author_filter, client_id))
        and is_sampled(rule, key)
    )


def is_sampled(rule: IntegrationRule, key: str) -> bool:
    """Return whether a rule's sample includes an event. It depends on rule and key only, in every process and forever.

    The samples of two rules are independent. All events of a message have its id as key.
    """
    if rule.sample_percent >= 100:
        return True
    drawn = hashlib.blake2b(f"{rule.pk}:{key}".encode(errors="replace"), digest_size=4).digest()
    return int.from_bytes(drawn) < rule.sample_percent / 100 * 2**32


def check(pattern: str, label: str = "room filter") -> None:
    """Raise ChatError 40035 with RE2's reason if a filter cannot be compiled or is too long."""
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
