"""Where deliveries go. A target turns a claim into a request; the worker makes it.

There is one kind now: an HTTP endpoint, which a Lambda's Function URL is as well. Another kind is another function
of the same shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from django.conf import settings

from integrations import callbacks, envelope, signing
from integrations.calls import Owed
from integrations.envelope import Callback, Event, Shape
from integrations.models import EventKind, IntegrationRule, When
from integrations.sealing import unseal
from rooms.rows import milliseconds
from rooms.serials import encode

CALLBACK_PATH = "/integrations/verdict"
SITE = "local"  # the public envelope names a data centre; there is one
# Longer than a message's budget: a verdict that comes late is told so, not that its token is unknown.
CALLBACK_GRACE_MS = 120_000


@dataclass(frozen=True, kw_only=True)
class Request:
    """One HTTP call, ready to be made."""

    url: str
    body: bytes
    headers: dict[str, str]


def prepare(rule: IntegrationRule, owed: Sequence[Owed], *, app_id: str, now: datetime) -> Request:
    """Return the signed request for claimed deliveries. Raises SealBroken where the rule's secret cannot be read."""
    shape = Shape(
        rule_id=str(rule.pk),
        source=EventKind.MESSAGE,
        app_id=app_id,
        site=SITE,
        enveloped=rule.enveloped,
        batched=rule.batched,
    )
    call = envelope.build(shape, [_event(rule, one) for one in owed])
    signature = signing.sign(
        [_secret(bytes(rule.sealed_secret))],
        webhook_id=call.webhook_id,
        timestamp=int(now.timestamp()),
        body=call.body,
    )
    return Request(url=rule.url, body=call.body, headers={**rule.headers, **call.headers, **signature})


def _event(rule: IntegrationRule, one: Owed) -> Event:
    return Event(
        webhook_id=one.webhook_id,
        room=one.room,
        payload=one.payload,
        timestamp=milliseconds(one.created_at),
        serial=encode(one.epoch, one.serial) if one.serial else None,
        callback=_callback(one) if rule.when == When.BEFORE else None,
    )


def _callback(one: Owed) -> Callback:
    assert one.deadline is not None
    expires = milliseconds(one.deadline) + CALLBACK_GRACE_MS
    claims = callbacks.Claims(message=one.message_id, rule=one.rule_id, expires=expires)
    key = callbacks.derive_key(settings.SECRET_KEY)
    return Callback(url=settings.PUBLIC_URL + CALLBACK_PATH, token=callbacks.issue(claims, key), expires=expires)


@lru_cache(maxsize=500)
def _secret(sealed: bytes) -> str:
    return unseal(sealed)
