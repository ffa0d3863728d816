"""Writes revocations of tokens, and reads those after the last that a process knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic

from django.conf import settings
from django.db import connection, transaction

from integrations.access.revocation_book import RevokedTokens
from integrations.access.tokens import LEEWAY_SECONDS, is_storable
from integrations.database.advisory_locks import AdvisoryLock, lock
from integrations.models import ApiKey, Revocation, RevocationSubject
from rooms.errors import ChatError, Code
from rooms.review.deadline_queries import read_clock

REVOCATIONS_MAX = 100_000  # in force: every process holds them, some 200 bytes each

MARGIN = timedelta(seconds=30)  # the protocol's, for clients to get another token
TICK = timedelta(milliseconds=1)
MAX_TARGETS = 100
MAX_VALUE_CHARACTERS = 255
READ = """
SELECT r.id, k.app_id || '.' || k.key_id, r.subject, r.value, extract(epoch FROM r.issued_before)::float8,
       extract(epoch FROM r.applies_at - statement_timestamp())::float8
FROM integrations_revocation r JOIN integrations_apikey k ON k.id = r.key_id
WHERE r.id > %s AND r.expires_at > statement_timestamp()
ORDER BY r.id LIMIT %s
"""


@dataclass(frozen=True, kw_only=True)
class RevocationTarget:
    """The tokens to revoke: a subject, such as a client id, and its value."""

    subject: RevocationSubject
    value: str

    def __str__(self) -> str:
        return f"{self.subject}:{self.value}"

    @classmethod
    def parse(cls, text: str) -> RevocationTarget:
        """Read `clientId:alice` and the like. Raises ChatError 40003."""
        subject, colon, value = text.partition(":")
        if not colon or subject not in RevocationSubject.values:
            raise ChatError(
                Code.INVALID_PARAMETER,
                f"A target is KIND:VALUE, and KIND one of {', '.join(RevocationSubject.values)}.",
            )
        if not 0 < len(value) <= MAX_VALUE_CHARACTERS or not is_storable(value):
            raise ChatError(
                Code.INVALID_PARAMETER, f"The value of a target is a text of 1 to {MAX_VALUE_CHARACTERS} characters."
            )
        return cls(subject=RevocationSubject(subject), value=value)


# --- State changes ----------------------------------------------------------------------------------------


def revoke(
    key: ApiKey,
    targets: Sequence[RevocationTarget],
    *,
    now: datetime,
    issued_before: datetime | None = None,
    with_margin: bool = False,
    by: str = "",
) -> list[Revocation]:
    """Revoke the tokens of a key that were issued before a moment (None: now), at once or in 30 seconds.

    Every process knows within a second. Raises ChatError 40003 for an invalid moment, 42910 at REVOCATIONS_MAX.
    """
    with transaction.atomic():
        # Under the lock, ids become visible in their order: a process that reads on after an id misses none.
        _lock()
        clock = read_clock()
        latest = max(now, clock)
        _check_moment(issued_before, latest)
        _check_room(len(targets), clock)
        # By Postgres' clock: a host whose clock is ahead must not delay the revocation.
        applies_at = clock + MARGIN if with_margin else clock
        rows = [
            Revocation(
                key=key,
                subject=target.subject,
                value=target.value,
                issued_before=issued_before or latest + TICK,
                applies_at=applies_at,
                expires_at=latest + MARGIN + timedelta(seconds=settings.TOKEN_MAX_TTL_SECONDS + LEEWAY_SECONDS),
                created_at=clock,
                created_by=by[:150],
            )
            for target in targets
        ]
        return Revocation.objects.bulk_create(rows)


def revoke_everywhere(targets: Sequence[RevocationTarget], *, now: datetime, by: str = "") -> list[Revocation]:
    """Revoke such tokens of every key in use. Raises ChatError 42910."""
    with transaction.atomic():
        used = ApiKey.objects.filter(revoked_at__isnull=True).order_by("id")
        return [row for key in used for row in revoke(key, targets, now=now, by=by)]


# --- Reading ----------------------------------------------------------------------------------------------


def read_after(last: int, limit: int) -> tuple[list[RevokedTokens], int]:
    """Return up to `limit` revocations after an id, those not in force yet too; and the id to read on after."""
    asked_at = monotonic()
    with connection.cursor() as cursor:
        cursor.execute(READ, [last, limit])
        rows = cursor.fetchall()
    found = [
        RevokedTokens(key_name=key, subject=subject, value=value, issued_before=before, starts_at=asked_at + seconds)
        for _, key, subject, value, before, seconds in rows
    ]
    return found, rows[-1][0] if rows else last


def moment(milliseconds: int | None) -> datetime | None:
    """Return a time of the protocol, in milliseconds, as a datetime. Raises ChatError 40003."""
    if milliseconds is None:
        return None
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (OverflowError, OSError, ValueError):
        raise ChatError(Code.INVALID_PARAMETER, "issuedBefore is a time in milliseconds since the epoch.") from None


def _check_moment(issued_before: datetime | None, latest: datetime) -> None:
    if issued_before is None:
        return
    oldest = latest - timedelta(seconds=settings.TOKEN_MAX_TTL_SECONDS)
    if not oldest <= issued_before <= latest + timedelta(seconds=1):
        raise ChatError(
            Code.INVALID_PARAMETER,
            f"issuedBefore is not in the future, and at most {settings.TOKEN_MAX_TTL_SECONDS} seconds ago: "
            "older tokens have expired.",
        )


def _check_room(wanted: int, clock: datetime) -> None:
    in_force = Revocation.objects.filter(expires_at__gt=clock).count()
    if in_force + wanted > REVOCATIONS_MAX:
        raise ChatError(
            Code.TOO_MANY_PUBLISHES,
            f"{in_force} revocations are in force, and REVOCATIONS_MAX is {REVOCATIONS_MAX}. To end all "
            "tokens of a key, rotate it with an overlap of 0, or revoke it.",
            status=429,
        )


def _lock() -> None:
    lock(AdvisoryLock.REVOKING)
