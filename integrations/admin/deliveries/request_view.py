"""The request of a delivery for the admin: headers and body as they are sent, without secrets.

The callback token permits a decision about the message, so it is never shown. The command to copy holds a body without
the token and a new signature over it, so that receivers accept it.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings

from integrations.egress.answers import CallFailed
from integrations.egress.aws import endpoints
from integrations.models import Delivery, IntegrationRule, TargetKind
from integrations.outbox.conclusions import ClaimedDelivery
from integrations.secrets import signing_secrets
from integrations.secrets.sealing import SealBroken
from integrations.wire import callback_tokens, signing
from integrations.worker import targets
from integrations.worker.targets import TargetRequest
from integrations.worker.worker import read_app_id

HIDDEN = "••••••••"
TOKEN_HEADER = "x-callback-token"
NO_REGION = "AWS_REGION"  # a placeholder in the command
SHOWN_CHARACTERS = 20_000
AWS_FLAGS = (
    "--aws-sigv4 {provider}",
    '--user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY"',
    '--header "x-amz-security-token: $AWS_SESSION_TOKEN"',
)


@dataclass(frozen=True, kw_only=True)
class Header:
    """A header of the request, as shown."""

    name: str
    value: str
    is_hidden: bool = False


@dataclass(frozen=True, kw_only=True)
class RequestView:
    """A request as shown on a page. With a `problem` there is no request; `curl` is empty if the user may not call."""

    verb: str = "POST"
    to: str = ""
    headers: tuple[Header, ...] = ()
    body: str = ""
    is_cut: bool = False
    curl: str = ""
    problem: str = ""


def of_delivery(delivery: Delivery, *, now: datetime, may_call: bool) -> RequestView:
    """Return the request of a delivery's next call. `may_call`: include the command that makes it."""
    return of_claimed(delivery.rule, claimed_of(delivery), now=now, may_call=may_call)


def of_claimed(rule: IntegrationRule, delivery: ClaimedDelivery, *, now: datetime, may_call: bool) -> RequestView:
    """Return the request of a call for one event."""
    try:
        request = without_token(rule, targets.prepare(rule, [delivery], app_id=read_app_id(), now=now), now)
        curl = as_curl(rule, request, now) if may_call else ""
    except (SealBroken, CallFailed) as error:
        return RequestView(problem=str(error))
    body = pretty(request.body)
    return RequestView(
        verb="Invoke" if rule.target == TargetKind.INVOKE else "POST",
        to=address_of(rule),
        headers=tuple(_headers(rule, request)),
        body=body[:SHOWN_CHARACTERS],
        is_cut=len(body) > SHOWN_CHARACTERS,
        curl=curl,
    )


def claimed_of(delivery: Delivery) -> ClaimedDelivery:
    """Return a delivery as a worker would have claimed it for its next call."""
    return ClaimedDelivery(
        id=delivery.pk,
        rule_id=delivery.rule_id,
        room_id=delivery.room_id,
        message_id=delivery.message_id,
        event=delivery.event,
        serial=delivery.serial,
        webhook_id=delivery.webhook_id,
        payload=delivery.payload,
        attempt=delivery.attempts + 1,
        tries=delivery.attempts + 1 - delivery.forgiven,
        created_at=delivery.created_at,
        deadline=delivery.deadline,
        room=delivery.room.name,
        epoch=delivery.room.epoch,
    )


def address_of(rule: IntegrationRule) -> str:
    """Return the address of a rule's target without the query string, which may hold a secret."""
    if rule.target == TargetKind.INVOKE:
        name = f"{rule.function}:{rule.qualifier}" if rule.qualifier else rule.function
        return f"{name} at {rule.url.partition('?')[0]}" if rule.url else name
    address, mark, _query = rule.url.partition("?")
    return f"{address}?{HIDDEN}" if mark else address


def without_token(rule: IntegrationRule, request: TargetRequest, now: datetime) -> TargetRequest:
    """Return the request with a placeholder for the callback token, and a new signature."""
    body, headers = request.body, dict(request.headers)
    tokens = {token for token in (headers.get(TOKEN_HEADER), *_tokens(request.body)) if token}
    if not tokens:
        return request
    for token in tokens:
        body = body.replace(token.encode(), callback_tokens.HIDDEN.encode())
    if TOKEN_HEADER in headers:
        headers[TOKEN_HEADER] = callback_tokens.HIDDEN
    secrets = signing_secrets.signing_secrets(rule, now)
    timestamp = int(headers["webhook-timestamp"])
    headers |= signing.sign(secrets, webhook_id=headers["webhook-id"], timestamp=timestamp, body=body)
    return TargetRequest(url=request.url, body=body, headers=headers)


def as_curl(rule: IntegrationRule, webhook: TargetRequest, now: datetime) -> str:
    """Return a shell command that makes the call, with AWS keys from the shell's environment. Raises CallFailed."""
    region = endpoints.region_of(region=rule.region, url=rule.url, function=rule.function, default=settings.AWS_REGION)
    request = (
        targets.invocation_of(rule, webhook, region or NO_REGION, now) if rule.target == TargetKind.INVOKE else webhook
    )
    parts = [f"curl --globoff --include --request POST {shlex.quote(request.url)}"]
    if rule.target != TargetKind.HTTP:
        parts += [flag.format(provider=shlex.quote(f"aws:amz:{region or NO_REGION}:lambda")) for flag in AWS_FLAGS]
    parts += [f"--header {shlex.quote(f'{name}: {value}')}" for name, value in request.headers.items()]
    text = _pasteable(request.body)
    if text is None:
        octal = "".join(f"\\0{byte:03o}" for byte in request.body)
        return f"printf %b '{octal}' | " + " \\\n  ".join([*parts, "--data-binary @-"])
    return " \\\n  ".join([*parts, f"--data-raw {shlex.quote(text)}"])


def _pasteable(body: bytes) -> str | None:
    """Return a body as text for a command; None if pasting it could do harm.

    A terminal takes some control characters for keys, so the author of a message could type in an administrator's
    shell.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    return text if text.replace("\n", "").isprintable() else None


def pretty(body: bytes | str) -> str:
    """Return a body for reading: JSON indented, other text unchanged, binary data as its size."""
    try:
        text = body if isinstance(body, str) else body.decode()
    except UnicodeDecodeError:
        return f"({len(body):,} bytes of binary data)"
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


def _headers(rule: IntegrationRule, request: TargetRequest) -> Iterator[Header]:
    own = {name.lower() for name in rule.headers}
    for name, value in sorted(request.headers.items()):
        # Headers that an administrator has added often hold credentials.
        is_hidden = name.lower() in own or name.lower() == TOKEN_HEADER
        yield Header(name=name, value=HIDDEN if is_hidden else value, is_hidden=is_hidden)


def _tokens(body: bytes) -> Iterator[str]:
    try:
        parsed: Any = json.loads(body)
    except (ValueError, RecursionError):
        return
    items = parsed.get("items") if isinstance(parsed, Mapping) else None
    for holder in [parsed, *(items if isinstance(items, list) else [])]:
        callback = holder.get("callback") if isinstance(holder, Mapping) else None
        token = callback.get("token") if isinstance(callback, Mapping) else None
        if isinstance(token, str) and token:
            yield token
