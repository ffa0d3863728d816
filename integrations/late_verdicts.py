"""Verdicts that come by callback: the token says on which message, the log takes the first."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import transaction

from integrations import callbacks, outbox
from integrations.callbacks import BadToken, Claims, ExpiredToken
from integrations.models import Delivery
from integrations.reviewer import awaiting_of
from integrations.targets import CALLBACK_GRACE_MS
from integrations.verdicts import Asked, BadAnswer, as_text, parse, read_payload
from rooms import decide
from rooms.errors import ChatError, Code
from rooms.outcomes import OutcomeKind
from rooms.review import Action, Decision, Verdict
from rooms.rows import milliseconds

WORDS = {Action.PUBLISH: "accept", Action.REPLACE: "modify", Action.REJECT: "reject", Action.HOLD: "hold"}


def take(token: str, body: bytes, *, now: datetime) -> dict[str, Any]:
    """Apply the verdict in `body` to the token's message, and return what the caller is told.

    The same verdict again gets the same answer. Raises ChatError: 40106, 40142 or 40144 for the token, 40001 for the
    body, 40400 where rule or message are gone, 40900 (409; 410 after the deadline) where something else was decided.
    """
    claims = check_token(token, now)
    delivery = Delivery.objects.filter(message_id=claims.message, rule_id=claims.rule, deadline__isnull=False).first()
    if delivery is None:
        raise ChatError(Code.NOT_FOUND, "The message or the rule of this token no longer exists.")
    message_id = read_payload(delivery.payload).id or ""
    verdict = _read(body, delivery, message_id)
    _apply(claims, verdict, now)
    return {"messageId": message_id, "ruleId": str(claims.rule), "action": WORDS[verdict.action]}


def check_token(token: str, now: datetime) -> Claims:
    """Return what a callback token is good for. Raises ChatError 40106, 40142 or 40144."""
    if not token:
        raise ChatError(Code.NO_CREDENTIALS, "Send the callback's token as `Authorization: Bearer TOKEN`.")
    keys = [callbacks.derive_key(key) for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)]
    try:
        return callbacks.verify(token, keys, now_ms=milliseconds(now))
    except ExpiredToken:
        raise ChatError(Code.TOKEN_EXPIRED, "The callback token has expired: the message was decided.") from None
    except BadToken:
        raise ChatError(Code.TOKEN_INVALID, "This is not a callback token of this server.") from None


def _read(body: bytes, delivery: Delivery, message_id: str) -> Verdict:
    asked = Asked(key=delivery.pk, ids=frozenset({delivery.webhook_id, message_id}), payload=delivery.payload)
    try:
        found = parse(body, [asked], max_bytes=settings.MESSAGE_MAX_BYTES)
    except BadAnswer as error:
        raise ChatError(Code.INVALID_BODY, str(error)) from None
    if delivery.pk not in found:
        raise ChatError(Code.INVALID_BODY, 'The body is a verdict, such as {"action": "accept"}.')
    return found[delivery.pk]


def _apply(claims: Claims, verdict: Verdict, now: datetime) -> None:
    text = as_text(verdict)
    decision = Decision(message=claims.message, awaiting=awaiting_of(claims.rule), verdict=verdict)
    with transaction.atomic():
        (outcome,) = decide.decide([decision], now=now)
        if outcome.kind not in (OutcomeKind.STALE, OutcomeKind.UNKNOWN):
            outbox.note_answer(rule_id=claims.rule, message_id=claims.message, text=text)
            return
    if outcome.kind is OutcomeKind.UNKNOWN:
        raise ChatError(Code.NOT_FOUND, "The message of this token no longer exists.")
    if outbox.read_answer(rule_id=claims.rule, message_id=claims.message) != text:
        is_late = milliseconds(now) > claims.expires - CALLBACK_GRACE_MS
        when = "at its deadline" if is_late else "by another verdict"
        raise ChatError(Code.CONFLICT, f"The message was decided {when}.", status=410 if is_late else 409)
