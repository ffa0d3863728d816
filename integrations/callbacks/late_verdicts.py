"""Applies verdicts that come by callback. The token names message and rule; one use of it decides."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import transaction

from integrations import outbox
from integrations.callbacks import callback_uses
from integrations.callbacks.callback_uses import Use
from integrations.models import CallbackResult, CallbackUse, Delivery
from integrations.review.reviewer import awaiting_of
from integrations.wire import callback_tokens
from integrations.wire.callback_tokens import BadToken, CallbackClaims, ExpiredToken
from integrations.wire.verdicts import AskedMessage, BadAnswer, OtherMessage, as_text, parse, read_payload
from rooms.errors import ChatError, Code
from rooms.log.outcomes import OutcomeKind
from rooms.log.rows import milliseconds
from rooms.models import Verdict as VerdictRecord
from rooms.review import decide
from rooms.review.contract import Decision, Verdict, VerdictAction
from rooms.review.late import deadline_of, may_apply
from rooms.review.overrule import overrule

WORDS = {
    VerdictAction.PUBLISH: "accept",
    VerdictAction.REPLACE: "modify",
    VerdictAction.REJECT: "reject",
    VerdictAction.HOLD: "hold",
}
LOCK_SECONDS = 2.0  # for the lock of the message's room; then the answer is 503, and the gateway's thread is free again
COUNTED = (OutcomeKind.PUBLISHED, OutcomeKind.REJECTED, OutcomeKind.HELD, OutcomeKind.PENDING)
TOO_LATE = "The message was decided at its deadline."


@dataclass(frozen=True, kw_only=True)
class CallbackReply:
    """The reply to a callback. `error`: why the verdict did not count; `is_repeated`: the same reply as before."""

    shape: dict[str, Any]
    error: ChatError | None = None
    is_repeated: bool = False


def apply_callback(token: str, body: bytes, *, now: datetime, address: str = "") -> CallbackReply:
    """Apply the verdict in `body` to the token's message, record the use of the token, and return the reply.

    The same request again gets the same reply. A reply's error is 40900 (410) if the deadline had decided and the rule
    only records late verdicts. Raises ChatError: 40106 or 40144 (401) for the token, 40160 (401) for another message,
    40001 for the body, 40400 if rule or message are gone, 40900 (409; 410 for an expired token) if another verdict has
    decided. Raises OperationalError, which is answered with 503, where the message's room stays locked.
    """
    use = Use(claims=None, body=body, address=address, at=now)
    try:
        claims = check_token(token)
        use = Use(claims=claims, body=body, address=address, at=now)
        return _apply_once(claims, use)
    except ChatError as error:
        callback_uses.record_harmless(use, CallbackResult.REFUSED, error=error)
        raise


def check_token(token: str) -> CallbackClaims:
    """Return the claims of a callback token, current or expired. Raises ChatError 40106 or 40144."""
    if not token:
        raise ChatError(Code.NO_CREDENTIALS, "Send the callback's token as `Authorization: Bearer TOKEN`.")
    keys = [callback_tokens.derive_key(key) for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)]
    try:
        return callback_tokens.verify(token, keys)
    except BadToken:
        raise ChatError(Code.TOKEN_INVALID, "This is not a callback token of this server.") from None


def _apply_once(claims: CallbackClaims, use: Use) -> CallbackReply:
    former = callback_uses.find_decisive(claims)
    delivery = (
        Delivery.objects.filter(message_id=claims.message, rule_id=claims.rule, deadline__isnull=False)
        .select_related("rule")
        .first()
    )
    if delivery is None:
        raise ChatError(Code.NOT_FOUND, "The message or the rule of this token no longer exists.")
    message_id = read_payload(delivery.payload).id or ""
    if former is not None:
        return _repeat_reply(former, use, message_id)
    try:
        callback_tokens.require_current(claims, now_ms=milliseconds(use.at))
    except ExpiredToken:
        raise ChatError(Code.CONFLICT, f"The callback token has expired. {TOO_LATE}", status=410) from None
    verdict = _read(use.body, delivery, message_id)
    answer = _apply(delivery, claims, verdict, use, message_id)
    if answer is None:  # another use of the token was faster
        former = callback_uses.find_decisive(claims)
        assert former is not None
        return _repeat_reply(former, use, message_id)
    return answer


def _read(body: bytes, delivery: Delivery, message_id: str) -> Verdict:
    asked = AskedMessage(key=delivery.pk, ids=frozenset({delivery.webhook_id, message_id}), payload=delivery.payload)
    try:
        found = parse(body, [asked], max_bytes=settings.MESSAGE_MAX_BYTES)
    except OtherMessage:
        raise ChatError(Code.OPERATION_NOT_PERMITTED, "The callback token is for another message.") from None
    except BadAnswer as error:
        raise ChatError(Code.INVALID_BODY, str(error)) from None
    if delivery.pk not in found:
        raise ChatError(Code.INVALID_BODY, 'The body is a verdict, such as {"action": "accept"}.')
    return found[delivery.pk]


def _apply(
    delivery: Delivery, claims: CallbackClaims, verdict: Verdict, use: Use, message_id: str
) -> CallbackReply | None:
    """Apply a verdict and record the use, in one transaction. Return None if another use of the token was first."""
    action = WORDS[verdict.action]
    decision = Decision(message=claims.message, awaiting=awaiting_of(claims.rule), verdict=verdict)
    with transaction.atomic():
        (outcome,) = decide.decide([decision], now=use.at, lock_seconds=LOCK_SECONDS)
        if outcome.kind in COUNTED:
            if not callback_uses.decide(use, CallbackResult.APPLIED, action=action):
                raise _conflict()
            outbox.store_callback_verdict(rule_id=claims.rule, message_id=claims.message, text=as_text(verdict))
            return CallbackReply(shape=_shape(claims, message_id, action))
        if outcome.kind is OutcomeKind.UNKNOWN:
            raise ChatError(Code.NOT_FOUND, "The message of this token no longer exists.")
        if _deadline_decided(decision):
            return _apply_late(delivery, decision, use, message_id)
    if callback_uses.find_decisive(claims) is not None:
        return None
    if outbox.read_verdict(rule_id=claims.rule, message_id=claims.message) != as_text(verdict):
        raise _conflict()
    # The verdict came as the call's answer already; this is the same.
    callback_uses.record_harmless(use, CallbackResult.REPEATED, action=action)
    return CallbackReply(shape=_shape(claims, message_id, action))


def _apply_late(delivery: Delivery, decision: Decision, use: Use, message_id: str) -> CallbackReply | None:
    """Apply a verdict after the deadline, or only record it, as the rule says. Call in the transaction."""
    assert use.claims is not None
    action = WORDS[decision.verdict.action]
    if not may_apply(delivery.rule.late, is_past_deadline=True):
        error = _too_late()
        if not callback_uses.decide(use, CallbackResult.LATE, action=action, error=error):
            return None
        return CallbackReply(shape={"error": error.as_dict()}, error=error)
    if not callback_uses.decide(use, CallbackResult.LATE, action=action):
        return None
    (outcome,) = overrule([decision], now=use.at, lock_seconds=LOCK_SECONDS)
    if outcome.kind not in COUNTED:
        raise _conflict()
    outbox.store_callback_verdict(rule_id=use.claims.rule, message_id=decision.message, text=as_text(decision.verdict))
    return CallbackReply(shape=_shape(use.claims, message_id, action, is_late=True))


def _repeat_reply(former: CallbackUse, use: Use, message_id: str) -> CallbackReply:
    """Return the reply of the first use. Raises ChatError 40900 if the body is another one."""
    assert use.claims is not None
    if former.body_digest != use.digest:
        raise ChatError(Code.CONFLICT, "The callback token was used already, with another body.")
    callback_uses.record_harmless(use, CallbackResult.REPEATED, action=former.action)
    if former.code is not None:
        error = _too_late()
        return CallbackReply(shape={"error": error.as_dict()}, error=error, is_repeated=True)
    is_late = former.result == CallbackResult.LATE
    return CallbackReply(shape=_shape(use.claims, message_id, former.action, is_late=is_late), is_repeated=True)


def _deadline_decided(decision: Decision) -> bool:
    step = deadline_of(decision.awaiting)
    return VerdictRecord.objects.filter(message_id=decision.message, step=step).exists()


def _shape(claims: CallbackClaims, message_id: str, action: str, *, is_late: bool = False) -> dict[str, Any]:
    shape: dict[str, Any] = {"messageId": message_id, "ruleId": str(claims.rule), "action": action}
    return shape | {"late": True} if is_late else shape


def _conflict() -> ChatError:
    return ChatError(Code.CONFLICT, "The message was decided by another verdict.")


def _too_late() -> ChatError:
    return ChatError(Code.CONFLICT, TOO_LATE, status=410)
