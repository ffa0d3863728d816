"""The specification of a rule, and its checks, whose errors are sentences for the rule's owner."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

from integrations.egress import addresses
from integrations.egress.aws import endpoints
from integrations.matching import filters
from integrations.models import AtDeadline, EventKind, IntegrationRule, Invocation, Late, TargetKind, When
from rooms.errors import ChatError, Code

NAME = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,80}")
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]{1,100}")
HEADER_VALUE = re.compile(r"[\x20-\x7e]{0,1000}")
MAX_HEADERS = 20
# Headers that each call sets; a rule must not replace them.
OUR_HEADERS = frozenset(
    {"host", "content-length", "content-type", "transfer-encoding", "connection", "accept-encoding", "user-agent"}
)
OUR_PREFIXES = ("webhook-", "x-ably-", "x-callback-")

# A function's name, alone or within an ARN.
FUNCTION = re.compile(
    r"(arn:aws[a-z-]*:lambda:(?P<region>[a-z0-9-]+):)?(\d{12}:)?(function:)?[A-Za-z0-9_-]{1,64}"
    r"(:(?P<qualifier>\$LATEST|[A-Za-z0-9_-]{1,128}))?",
    re.ASCII,
)
QUALIFIER = re.compile(r"\$LATEST|[A-Za-z0-9_-]{1,128}")
REGION = re.compile(r"(?=.{1,32}$)[a-z]{2,}(-[a-z]+)+-\d{1,2}", re.ASCII)
ROLE = re.compile(r"(?=.{1,200}$)arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+", re.ASCII)
EXTERNAL_ID = re.compile(r"[\w+=,.@:/-]{2,200}", re.ASCII)

MAX_BATCH_EVENTS = 1_000
MAX_BATCH_BYTES = 3_000_000  # Lambda's limit is 6 MB, and the body is escaped text inside an event
MAX_QUEUED_BATCH_BYTES = 500_000  # Lambda's limit for queued events is 1 MB
MAX_BATCH_WAIT_MS = 60_000
MAX_TIMEOUT_SECONDS = 900.0  # a Lambda's own limit
MAX_CONCURRENCY = 1_000
MAX_CACHE_SECONDS = 3_600.0
MAX_CACHE_AFTER = 1_000


@dataclass(frozen=True, kw_only=True)
class RuleSpec:
    """The specification of a rule: fields of IntegrationRule, whose help texts explain them."""

    name: str
    events: Sequence[str] = (EventKind.MESSAGE,)
    room_filter: str = ""
    author_filter: str = ""
    sample_percent: float = 100.0
    when: str = When.AFTER
    order: int = 0

    target: str = TargetKind.HTTP
    url: str = ""
    function: str = ""
    qualifier: str = ""
    invocation: str = Invocation.SYNC
    region: str = ""
    role: str = ""
    external_id: str = ""

    enveloped: bool = True
    ordered: bool = True
    batched: bool = False
    batch_events: int = 100
    batch_bytes: int = 262_144
    batch_wait_ms: int = 0
    timeout_seconds: float | None = None
    concurrency: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    budget_seconds: float | None = None
    at_deadline: str = AtDeadline.REJECT
    at_deadline_new: str = ""
    at_deadline_trusted: str = ""
    late: str = Late.RECORD
    cache_seconds: float = 10.0
    cache_after: int = 3

    shadow_of: IntegrationRule | None = None
    stands_in: bool = False


def check(spec: RuleSpec) -> None:
    """Raise ChatError 40003 or 40035 with a sentence about the first invalid field."""
    _require(bool(NAME.fullmatch(spec.name)), "The name has 1 to 80 characters, and no control characters.")
    _check_events(spec)
    filters.check(spec.room_filter, "room filter")
    filters.check(spec.author_filter, "author filter")
    _require(0 < spec.sample_percent <= 100, "The sample is more than 0 and at most 100 percent.")
    _require(0 <= spec.order <= 32_767, "The order is a number from 0 to 32767.")
    _check_target(spec)
    check_headers(spec.headers)
    _check_calls(spec)
    _check_verdicts(spec)
    _check_shadow(spec)


def _check_events(spec: RuleSpec) -> None:
    _require_one_of("when", spec.when, When.values)
    _require(bool(spec.events), "A rule hears of one kind of event at least.")
    for event in spec.events:
        _require(
            not event.startswith(("channel.presence", "presence.")),
            "This server has no presence yet, so no rule can hear of it; "
            f"{EventKind.OCCUPANCY} tells how many are in a room.",
        )
        _require_one_of("event", event, EventKind.values)
    _require(
        spec.when == When.AFTER or set(spec.events) == {EventKind.MESSAGE},
        f"A rule before publish decides about messages: its only event is {EventKind.MESSAGE}. "
        "Make another rule, after publish, for the others.",
    )


def _check_target(spec: RuleSpec) -> None:
    _require_one_of("target", spec.target, TargetKind.values)
    _require_one_of("invocation", spec.invocation, Invocation.values)
    is_invoked = spec.target == TargetKind.INVOKE
    if spec.url or not is_invoked:
        check_url(spec.url)
    if is_invoked:
        _check_function(spec)
    else:
        _require(
            not spec.function and not spec.qualifier,
            f"Function and qualifier are for the target {TargetKind.INVOKE}; a Function URL names both itself.",
        )
    if spec.target == TargetKind.HTTP:
        _require(
            not spec.region and not spec.role,
            f"Region and role sign calls to AWS: choose the target {TargetKind.FUNCTION_URL} or {TargetKind.INVOKE}.",
        )
    else:
        found = endpoints.region_of(
            region=spec.region, url=spec.url, function=spec.function, default=settings.AWS_REGION
        )
        _require(
            bool(found), "Which AWS region? Neither the rule nor its URL or ARN says it, and AWS_REGION is not set."
        )
    _require(not spec.region or bool(REGION.fullmatch(spec.region)), "The region is one of AWS', such as eu-central-1.")
    _require(
        not spec.role or bool(ROLE.fullmatch(spec.role)),
        "The role is an ARN, such as arn:aws:iam::123456789012:role/name.",
    )
    _require(
        not spec.external_id or (bool(EXTERNAL_ID.fullmatch(spec.external_id)) and bool(spec.role)),
        "The external id has 2 to 200 letters, digits and +=,.@:/-, and goes with a role.",
    )


def _check_function(spec: RuleSpec) -> None:
    found = FUNCTION.fullmatch(spec.function) if len(spec.function) <= 200 else None
    _require(
        found is not None,
        "The function is a name (letters, digits, hyphens, underscores) or an ARN, "
        "such as arn:aws:lambda:eu-central-1:123456789012:function:name.",
    )
    assert found is not None
    _require(
        not spec.qualifier or bool(QUALIFIER.fullmatch(spec.qualifier)),
        "The qualifier is a version's number, an alias, or $LATEST.",
    )
    _require(
        not (spec.qualifier and found["qualifier"]), "The function's ARN names a qualifier already; leave one away."
    )
    _require(
        not (spec.region and found["region"]) or spec.region == found["region"],
        "The function's ARN is of another region than the rule.",
    )


def _check_calls(spec: RuleSpec) -> None:
    _require_within("number of a batch's events", spec.batch_events, 1, MAX_BATCH_EVENTS)
    is_queued = spec.target == TargetKind.INVOKE and spec.invocation == Invocation.EVENT
    most_bytes = MAX_QUEUED_BATCH_BYTES if is_queued else MAX_BATCH_BYTES
    _require_within("number of a batch's bytes", spec.batch_bytes, 1, most_bytes)
    _require_within("wait of a batch, in milliseconds,", spec.batch_wait_ms, 0, MAX_BATCH_WAIT_MS)
    _require_within("time limit of a call, in seconds,", spec.timeout_seconds, 0.1, MAX_TIMEOUT_SECONDS)
    _require_within("number of calls at once", spec.concurrency, 1, MAX_CONCURRENCY)


def _check_verdicts(spec: RuleSpec) -> None:
    maximum = settings.REVIEW_DEADLINE_MAX_SECONDS
    _require(
        spec.budget_seconds is None or 0 < spec.budget_seconds <= maximum,
        f"The budget is more than 0 and at most {maximum:g} seconds.",
    )
    budget = spec.budget_seconds or settings.REVIEW_DEADLINE_SECONDS
    _require(
        spec.when == When.AFTER or spec.batch_wait_ms < budget * 1000,
        "A batch waits for more messages for longer than a message waits for its verdict.",
    )
    _require_one_of("at_deadline", spec.at_deadline, AtDeadline.values)
    _require_one_of("at_deadline_new", spec.at_deadline_new, ["", *AtDeadline.values])
    _require_one_of("at_deadline_trusted", spec.at_deadline_trusted, ["", *AtDeadline.values])
    _require_one_of("late", spec.late, Late.values)
    _require_within("time in the cache, in seconds,", spec.cache_seconds, 0, MAX_CACHE_SECONDS)
    _require_within("number of calls before the cache serves", spec.cache_after, 1, MAX_CACHE_AFTER)


def _check_shadow(spec: RuleSpec) -> None:
    main = spec.shadow_of
    if main is None:
        _require(not spec.stands_in, "A rule stands in for the one that it is a shadow of: name that one.")
        return
    _require(spec.when == main.when == When.BEFORE, "A shadow and the rule that it watches both come before publish.")
    _require(not main.is_shadow, f"{main.name!r} is a shadow itself; name the rule that it watches.")


def check_url(url: str) -> None:
    """Raise ChatError 40003 if a rule may not call this URL. Its address is checked again at each connection."""
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
        # A name that cannot be resolved now is accepted: each connection checks the address that it resolves to.
        return
    try:
        addresses.check(host, port, found, allow_list())
    except addresses.RefusedAddress as error:
        raise ChatError(Code.INVALID_PARAMETER, f"The URL cannot be a target: {error}") from None


def check_headers(headers: Mapping[str, Any]) -> None:
    """Raise ChatError 40003 for headers that cannot be sent, or that each call sets itself."""
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
    """Return the private targets that WEBHOOK_ALLOW_PRIVATE lists. Raises ValueError."""
    return addresses.AllowList.parse(settings.WEBHOOK_ALLOW_PRIVATE)


def _require(is_right: bool, sentence: str) -> None:
    if not is_right:
        raise ChatError(Code.INVALID_PARAMETER, sentence)


def _require_one_of(label: str, value: str, choices: Collection[str]) -> None:
    shown = ", ".join(choice for choice in choices if choice)
    _require(value in choices, f"{label} is one of {shown}; {value[:40]!r} is none of them.")


def _require_within(label: str, value: float | None, least: float, most: float) -> None:
    _require(value is None or least <= value <= most, f"The {label} is from {least:g} to {most:g}.")
