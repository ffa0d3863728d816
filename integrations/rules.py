"""Integration rules: checking, making, switching, and finding those that an event concerns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import re2
from django.conf import settings
from django.db import IntegrityError, transaction

from integrations import addresses, outbox
from integrations.models import AtDeadline, EventKind, IntegrationRule, When
from integrations.sealing import seal
from integrations.signing import draw_secret
from rooms.errors import ChatError, Code

FILTER_MAX_CHARACTERS = 500
RE2_MAX_MEMORY_BYTES = 1_048_576
NAME = re.compile(r"[^\x00-\x1f\x7f]{1,80}")
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]{1,100}")
HEADER_VALUE = re.compile(r"[\x20-\x7e]{0,1000}")
MAX_HEADERS = 20
REMOVE_BATCH = 5_000
# What the call itself says; a rule must not be able to contradict it.
OUR_HEADERS = frozenset(
    {"host", "content-length", "content-type", "transfer-encoding", "connection", "accept-encoding", "user-agent"}
)
OUR_PREFIXES = ("webhook-", "x-ably-", "x-callback-")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A rule as somebody asks for it."""

    name: str
    url: str
    events: Sequence[str] = (EventKind.MESSAGE,)
    room_filter: str = ""
    when: str = When.AFTER
    order: int = 0
    enveloped: bool = True
    batched: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    budget_seconds: float | None = None
    at_deadline: str = AtDeadline.REJECT


# --- State changes ----------------------------------------------------------------------------------------


def add(wanted: Wanted, *, now: datetime) -> tuple[IntegrationRule, str]:
    """Make a rule and return it with its signing secret, which is not shown again. Raises ChatError."""
    check(wanted)
    secret = draw_secret()
    rule = IntegrationRule(
        name=wanted.name,
        events=list(wanted.events),
        room_filter=wanted.room_filter,
        when=wanted.when,
        order=wanted.order,
        url=wanted.url,
        enveloped=wanted.enveloped,
        batched=wanted.batched,
        headers={name.lower(): value for name, value in wanted.headers.items()},
        sealed_secret=seal(secret),
        budget_seconds=wanted.budget_seconds,
        at_deadline=wanted.at_deadline,
        created_at=now,
        changed_at=now,
    )
    try:
        with transaction.atomic():
            rule.save(force_insert=True)
    except IntegrityError:
        raise ChatError(Code.CONFLICT, f"There is a rule named {wanted.name!r} already.") from None
    return rule, secret


def remove(name: str, *, now: datetime) -> None:
    """Delete a rule with its deliveries, finished or not. Raises ChatError 40400.

    Off first, then its history in small transactions, then the rule: no publish waits for a long deletion.
    """
    rule = switch(name, enabled=False, now=now)
    while outbox.forget(rule.pk, limit=REMOVE_BATCH):
        pass
    with transaction.atomic():
        IntegrationRule.objects.select_for_update().filter(pk=rule.pk).first()
        rule.delete()


def switch(name: str, *, enabled: bool, now: datetime) -> IntegrationRule:
    """Turn a rule on or off. What it owes stays, and goes on when it is on again. Raises ChatError 40400."""
    rule = find(name)
    with transaction.atomic():
        IntegrationRule.objects.filter(pk=rule.pk).update(enabled=enabled, changed_at=now)
        if enabled:
            outbox.wake()
    rule.enabled, rule.changed_at = enabled, now
    return rule


def rotate_secret(name: str, *, now: datetime) -> str:
    """Give a rule a new signing secret and return it. Calls that begin from now on are signed by it alone."""
    secret = draw_secret()
    IntegrationRule.objects.filter(pk=find(name).pk).update(sealed_secret=seal(secret), changed_at=now)
    return secret


# --- Reading ----------------------------------------------------------------------------------------------


def find(name: str) -> IntegrationRule:
    """Return a rule by name. Raises ChatError 40400."""
    rule = IntegrationRule.objects.filter(name=name).first()
    if rule is None:
        raise ChatError(Code.NOT_FOUND, f"There is no rule {name!r}. `manage.py rule list` shows all of them.")
    return rule


def matches(room_filter: str, room: str) -> bool:
    """Tell whether a rule with this filter concerns a room: found anywhere in its name; empty: every room."""
    return not room_filter or _compiled(room_filter).search(room) is not None


# --- Checking ---------------------------------------------------------------------------------------------


def check(wanted: Wanted) -> None:
    """Raise ChatError 40003 or 40035 with a sentence for the first thing that is wrong."""
    _require(bool(NAME.fullmatch(wanted.name)), "The name has 1 to 80 characters, and no control characters.")
    _require(bool(wanted.events), "A rule hears of one kind of event at least.")
    for event in wanted.events:
        _require_one_of("event", event, EventKind.values)
    _require_one_of("when", wanted.when, When.values)
    _require_one_of("at_deadline", wanted.at_deadline, AtDeadline.values)
    _require(0 <= wanted.order <= 32_767, "The order is a number from 0 to 32767.")
    maximum = settings.REVIEW_DEADLINE_MAX_SECONDS
    _require(
        wanted.budget_seconds is None or 0 < wanted.budget_seconds <= maximum,
        f"The budget is more than 0 and at most {maximum:g} seconds.",
    )
    check_filter(wanted.room_filter)
    check_headers(wanted.headers)
    check_url(wanted.url)


def check_filter(room_filter: str) -> None:
    """Raise ChatError 40035 with RE2's reason for a filter that cannot be used."""
    if len(room_filter) > FILTER_MAX_CHARACTERS:
        raise ChatError(Code.INVALID_FILTER, f"The room filter is longer than {FILTER_MAX_CHARACTERS} characters.")
    if "\0" in room_filter:
        raise ChatError(Code.INVALID_FILTER, "The room filter holds a NUL character.")
    try:
        _compiled(room_filter)
    except (re2.error, UnicodeError) as error:
        reason = error.args[0] if error.args else "not valid"
        reason = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise ChatError(
            Code.INVALID_FILTER, f"The room filter is not a regular expression that RE2 understands: {reason}"[:500]
        ) from None


def check_url(url: str) -> None:
    """Raise ChatError 40003 unless a rule may call this address now. It is checked again at each connection."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ChatError(Code.INVALID_PARAMETER, "The URL is malformed.") from None
    _require(parts.scheme in ("http", "https") and bool(host), "The URL begins with http:// or https:// and a host.")
    assert host is not None
    _require(len(url) <= 2000 and url.isprintable() and " " not in url, "The URL holds spaces, or is too long.")
    _require(parts.username is None, "The URL holds a user name or password; send those as a header.")
    _require(not parts.fragment, "The URL holds a fragment (#), which is never sent.")
    port = port or (443 if parts.scheme == "https" else 80)
    try:
        found = addresses.resolve(host, port)
    except (OSError, UnicodeError):
        # A name that does not exist yet is no danger: the connection judges what it will resolve to.
        return
    try:
        addresses.check(host, port, found, allow_list())
    except addresses.RefusedAddress as error:
        raise ChatError(Code.INVALID_PARAMETER, f"The URL cannot be a target: {error}") from None


def check_headers(headers: Mapping[str, Any]) -> None:
    """Raise ChatError 40003 for headers that cannot be sent or that would contradict the call's own."""
    _require(len(headers) <= MAX_HEADERS, f"A rule has at most {MAX_HEADERS} headers.")
    for name, value in headers.items():
        lower = name.lower()
        _require(bool(HEADER_NAME.fullmatch(lower)), "A header's name is letters, digits and hyphens.")
        _require(
            isinstance(value, str) and bool(HEADER_VALUE.fullmatch(value)), f"The header {name} is not printable ASCII."
        )
        _require(
            lower not in OUR_HEADERS and not lower.startswith(OUR_PREFIXES), f"The header {name} is set by the server."
        )


def allow_list() -> addresses.AllowList:
    """Return the private targets that the settings allow. Raises ValueError."""
    return addresses.AllowList.parse(settings.WEBHOOK_ALLOW_PRIVATE)


@lru_cache(maxsize=500)
def _compiled(room_filter: str) -> Any:
    options = re2.Options()
    options.max_mem = RE2_MAX_MEMORY_BYTES
    options.log_errors = False
    return re2.compile(room_filter, options=options)


def _require(is_right: bool, sentence: str) -> None:
    if not is_right:
        raise ChatError(Code.INVALID_PARAMETER, sentence)


def _require_one_of(label: str, value: str, choices: Sequence[str]) -> None:
    _require(value in choices, f"{label} is one of {', '.join(choices)}; {value[:40]!r} is none of them.")
