"""The audit of callback tokens: every use of one is a row, up to a bound for each message and for forged tokens."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from threading import Lock

from django.db import connection

from integrations.models import CallbackResult, CallbackUse
from integrations.wire.callback_tokens import CallbackClaims
from rooms.errors import ChatError

CALLBACK_FORGED_PER_MINUTE = 60  # forged tokens that are recorded; more are only counted

MAX_PER_MESSAGE = 50  # rows for refusals and repeats
DECISIVE = (CallbackResult.APPLIED, CallbackResult.LATE)
# Inserts the use that decides. A second use of the token waits for this transaction, and then inserts nothing.
CLAIM = """
INSERT INTO integrations_callbackuse
    (token_id, result, action, code, problem, message_pk, rule_pk, body_digest, address, at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (token_id) WHERE result IN ('applied', 'late') DO NOTHING
"""


@dataclass(frozen=True, kw_only=True)
class Use:
    """One call of the verdict endpoint. `claims` is None if the token was missing or forged."""

    claims: CallbackClaims | None
    body: bytes
    address: str
    at: datetime

    @property
    def digest(self) -> str:
        """The SHA-256 of the body: the same token with another body is no repeat."""
        return hashlib.sha256(self.body).hexdigest()


# --- State changes ----------------------------------------------------------------------------------------


def decide(use: Use, result: CallbackResult, *, action: str, error: ChatError | None = None) -> bool:
    """Record the use of a token that decides its message. Return False if an earlier use has decided.

    Call in the transaction of the verdict.
    """
    assert use.claims is not None
    code, problem = (error.code, error.message[:200]) if error else (None, "")
    with connection.cursor() as cursor:
        cursor.execute(
            CLAIM,
            [use.claims.id, result, action, code, problem, use.claims.message, use.claims.rule, use.digest,
             use.address[:64], use.at],
        )  # fmt: skip
        is_first: bool = cursor.rowcount == 1
    if is_first:
        counts.add(result)
    return is_first


def record_harmless(use: Use, result: CallbackResult, *, action: str = "", error: ChatError | None = None) -> None:
    """Record a use that changed nothing; beyond the bounds it is only counted."""
    counts.add(result)
    if not _may_record(use):
        counts.add(UNRECORDED)
        return
    CallbackUse.objects.create(
        token_id=use.claims.id if use.claims else "",
        result=result,
        action=action,
        code=error.code if error else None,
        problem=error.message[:200] if error else "",
        message_pk=use.claims.message if use.claims else None,
        rule_pk=use.claims.rule if use.claims else None,
        body_digest=use.digest if use.claims else "",
        address=use.address[:64],
        at=use.at,
    )


# --- Reading ----------------------------------------------------------------------------------------------


def find_decisive(claims: CallbackClaims) -> CallbackUse | None:
    """Return the use of a token that decided, None if there is none yet."""
    return CallbackUse.objects.filter(token_id=claims.id, result__in=DECISIVE).first()


def _may_record(use: Use) -> bool:
    if use.claims is None:
        return forged.allow(CALLBACK_FORGED_PER_MINUTE, time.monotonic())
    mine = CallbackUse.objects.filter(message_pk=use.claims.message).exclude(result__in=DECISIVE)
    return mine[:MAX_PER_MESSAGE].count() < MAX_PER_MESSAGE


# --- Counts of this process -------------------------------------------------------------------------------

UNRECORDED = "unrecorded"


class Counts:
    """The number of uses since this process began, by result. Threads share it."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = Lock()

    def add(self, result: str) -> None:
        """Count one use."""
        with self._lock:
            self._counts[str(result)] += 1

    def figures(self) -> Mapping[str, int]:
        """Return all counts, zeros too."""
        return {name: self._counts[name] for name in (*CallbackResult.values, UNRECORDED)}


class RateLimit:
    """A token bucket: allows a number of events a minute. Threads share it."""

    def __init__(self) -> None:
        self._left = 0.0
        self._filled_at: float | None = None
        self._lock = Lock()

    def allow(self, per_minute: int, now: float) -> bool:
        """Return whether one more event is allowed. `now`: seconds of a monotonic clock."""
        with self._lock:
            passed = 60.0 if self._filled_at is None else now - self._filled_at
            self._left, self._filled_at = min(self._left + passed * per_minute / 60, float(per_minute)), now
            if self._left < 1:
                return False
            self._left -= 1
            return True


counts = Counts()
forged = RateLimit()
