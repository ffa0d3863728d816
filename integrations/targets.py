"""Where deliveries go: from claimed deliveries to a signed request, and by the one door to its answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from django.conf import settings

from integrations import callbacks, envelope, events, signing
from integrations.answers import Answer, CallFailed
from integrations.calls import Owed
from integrations.envelope import Callback, Event, Shape
from integrations.models import IntegrationRule, When
from integrations.outgoing import Outgoing
from integrations.rule_secrets import signing_secrets
from integrations.sealing import SealBroken
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
    body: bytes = field(repr=False)
    headers: dict[str, str] = field(repr=False)


class Targets:
    """Calls the targets of rules. One for each worker; `close` it with the connections that it was given."""

    def __init__(self, outgoing: Outgoing) -> None:
        self._outgoing = outgoing

    async def call(
        self, rule: IntegrationRule, owed: Sequence[Owed], *, app_id: str, now: datetime, timeout: float
    ) -> Answer:
        """Make one call for claimed deliveries at a rule's target, in at most `timeout` seconds. Raises CallFailed.

        Only the target is the rule's: for a stand-in it is another than the one that the deliveries are owed to.
        """
        try:
            request = prepare(rule, owed, app_id=app_id, now=now)
        except SealBroken as error:
            raise CallFailed(str(error), is_final=True) from None
        return await self._outgoing.post(request.url, body=request.body, headers=request.headers, timeout=timeout)

    async def close(self) -> None:
        """Close all connections."""
        await self._outgoing.close()


def prepare(rule: IntegrationRule, owed: Sequence[Owed], *, app_id: str, now: datetime) -> Request:
    """Return the signed webhook for claimed deliveries. Raises SealBroken where the rule's secret cannot be read."""
    shape = Shape(
        rule_id=str(rule.pk),
        app_id=app_id,
        site=SITE,
        enveloped=rule.enveloped,
        batched=rule.batched,
    )
    call = envelope.build(shape, [_event(rule, one, now) for one in owed])
    signature = signing.sign(
        signing_secrets(rule, now),
        webhook_id=call.webhook_id,
        timestamp=int(now.timestamp()),
        body=call.body,
    )
    return Request(url=rule.url, body=call.body, headers={**rule.headers, **call.headers, **signature})


def _event(rule: IntegrationRule, one: Owed, now: datetime) -> Event:
    return Event(
        webhook_id=one.webhook_id,
        room=one.room,
        payload=one.payload,
        timestamp=milliseconds(one.created_at),
        kind=one.event,
        serial=encode(one.epoch, one.serial) if one.serial and one.event in events.OF_THE_LOG else None,
        callback=_callback(one, now) if rule.when == When.BEFORE else None,
    )


def _callback(one: Owed, now: datetime) -> Callback | None:
    if one.deadline is None or one.message_id is None:
        return None  # a shadow is asked too, but nobody waits for it
    # A message may be asked about after its deadline; then too its verdict can come by callback.
    expires = milliseconds(max(one.deadline, now)) + CALLBACK_GRACE_MS
    claims = callbacks.Claims(message=one.message_id, rule=one.rule_id, expires=expires)
    key = callbacks.derive_key(settings.SECRET_KEY)
    return Callback(url=settings.PUBLIC_URL + CALLBACK_PATH, token=callbacks.issue(claims, key), expires=expires)
