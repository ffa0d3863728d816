"""Calls the target of a rule: builds the signed request for claimed deliveries, sends it and returns the answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import uuid4

from django.conf import settings

from integrations.egress.answers import Answer, CallFailed, in_words
from integrations.egress.aws import endpoints, invoke
from integrations.egress.aws.credentials import CredentialStore
from integrations.egress.aws.signing import SERVICE_LAMBDA, AwsCredentials, sign
from integrations.egress.outgoing import WEBHOOK_ANSWER_MAX_BYTES, Outgoing
from integrations.models import IntegrationRule, Invocation, Late, TargetKind, When
from integrations.outbox.conclusions import ClaimedDelivery
from integrations.secrets.sealing import SealBroken
from integrations.secrets.signing_secrets import signing_secrets
from integrations.wire import callback_tokens, envelope, events, signing
from integrations.wire.envelope import Callback, Event, Shape
from rooms.log.rows import milliseconds
from rooms.protocol.serials import encode

CALLBACK_PATH = "/integrations/verdict"
SITE = "local"  # the public envelope names a data centre; this server has one
# A token outlives its message's budget, so that a late verdict gets the answer "too late" and not "unknown token".
CALLBACK_GRACE_MS = 120_000


@dataclass(frozen=True, kw_only=True)
class TargetRequest:
    """An HTTP request to a target, signed."""

    url: str
    body: bytes = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    signed_by: AwsCredentials | None = None


class Targets:
    """Calls the targets of rules. One for each worker; `close` also closes the given connections."""

    def __init__(self, outgoing: Outgoing, *, credentials: CredentialStore | None = None) -> None:
        self._outgoing = outgoing
        self._credentials = credentials or CredentialStore(outgoing)

    async def call(
        self,
        rule: IntegrationRule,
        deliveries: Sequence[ClaimedDelivery],
        *,
        app_id: str,
        now: datetime,
        timeout: float,
    ) -> Answer:
        """Call a rule's target for claimed deliveries, in at most `timeout` seconds. Raises CallFailed.

        `rule` is the one whose target is called: a stand-in is another rule than that of the deliveries.
        """
        ends_at = time.monotonic() + timeout
        request = await self.request(rule, deliveries, app_id=app_id, now=now, timeout=timeout)
        is_invoked, max_bytes = rule.target == TargetKind.INVOKE, WEBHOOK_ANSWER_MAX_BYTES
        answer = await self._outgoing.post(
            request.url,
            body=request.body,
            headers=request.headers,
            timeout=max(0.001, ends_at - time.monotonic()),
            max_bytes=invoke.most_bytes(max_bytes) if is_invoked else max_bytes,
        )
        if request.signed_by is not None and invoke.is_about_credentials(answer):
            self._credentials.refuse(request.signed_by)
            raise CallFailed(f"AWS does not accept the credentials ({invoke.error_type(answer)}).")
        return invoke.read(answer, max_bytes=max_bytes) if is_invoked else answer

    async def request(
        self,
        rule: IntegrationRule,
        deliveries: Sequence[ClaimedDelivery],
        *,
        app_id: str,
        now: datetime,
        timeout: float,
    ) -> TargetRequest:
        """Return the request as it is sent, with all signatures. Raises CallFailed."""
        try:
            webhook = prepare(rule, deliveries, app_id=app_id, now=now)
        except SealBroken as error:
            raise CallFailed(str(error), is_final=True) from None
        if rule.target == TargetKind.HTTP:
            return webhook
        region = endpoints.region_of(
            region=rule.region, url=rule.url, function=rule.function, default=settings.AWS_REGION
        )
        if not region:
            raise CallFailed("Which AWS region? Give the rule one, or set AWS_REGION.", is_final=True)
        unsigned = invocation_of(rule, webhook, region, now) if rule.target == TargetKind.INVOKE else webhook
        try:
            async with asyncio.timeout(timeout):
                credentials = await self._credentials.get(rule, region=region)
        except TimeoutError:
            raise CallFailed(f"No AWS credentials within {in_words(timeout)}.") from None
        headers = sign(
            credentials,
            url=unsigned.url,
            body=unsigned.body,
            headers=unsigned.headers,
            service=SERVICE_LAMBDA,
            region=region,
        )
        return TargetRequest(url=unsigned.url, body=unsigned.body, headers=headers, signed_by=credentials)

    async def close(self) -> None:
        """Close all connections."""
        self._credentials.close()
        await self._outgoing.close()


def invocation_of(rule: IntegrationRule, webhook: TargetRequest, region: str, now: datetime) -> TargetRequest:
    """Return the unsigned request of the Invoke API that carries a webhook."""
    invocation = invoke.build(
        endpoints.invoke_url(rule.function, region=region, qualifier=rule.qualifier, base=rule.url),
        body=webhook.body,
        headers=webhook.headers,
        is_event=rule.invocation == Invocation.EVENT,
        request_id=str(uuid4()),
        now=now,
    )
    return TargetRequest(url=invocation.url, body=invocation.body, headers=invocation.headers)


def prepare(
    rule: IntegrationRule, deliveries: Sequence[ClaimedDelivery], *, app_id: str, now: datetime
) -> TargetRequest:
    """Return the webhook for claimed deliveries, signed with the rule's secret. Raises SealBroken."""
    shape = Shape(
        rule_id=str(rule.pk),
        app_id=app_id,
        site=SITE,
        enveloped=rule.enveloped,
        batched=rule.batched,
    )
    call = envelope.build(shape, [_event(rule, one, now) for one in deliveries])
    signature = signing.sign(
        signing_secrets(rule, now),
        webhook_id=call.webhook_id,
        timestamp=int(now.timestamp()),
        body=call.body,
    )
    return TargetRequest(url=rule.url, body=call.body, headers={**rule.headers, **call.headers, **signature})


def _event(rule: IntegrationRule, one: ClaimedDelivery, now: datetime) -> Event:
    return Event(
        webhook_id=one.webhook_id,
        room=one.room,
        payload=one.payload,
        timestamp=milliseconds(one.created_at),
        kind=one.event,
        serial=encode(one.epoch, one.serial) if one.serial and one.event in events.OF_THE_LOG else None,
        callback=_callback(rule, one, now) if rule.when == When.BEFORE else None,
    )


def _callback(rule: IntegrationRule, one: ClaimedDelivery, now: datetime) -> Callback | None:
    if one.deadline is None or one.message_id is None:
        return None  # no message waits for the verdict of a shadow rule
    # A call after the deadline may be answered by callback too.
    grace = round(settings.CALLBACK_LATE_SECONDS * 1000) if rule.late == Late.APPLY else CALLBACK_GRACE_MS
    expires = milliseconds(max(one.deadline, now)) + grace
    claims = callback_tokens.CallbackClaims(
        id=one.webhook_id, message=one.message_id, rule=one.rule_id, expires=expires
    )
    key = callback_tokens.derive_key(settings.SECRET_KEY)
    return Callback(url=settings.PUBLIC_URL + CALLBACK_PATH, token=callback_tokens.issue(claims, key), expires=expires)
