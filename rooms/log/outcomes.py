"""The outcome of a message after it was accepted or decided: published, rejected, held or pending."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from rooms.errors import ChatError, Code
from rooms.log.rows import Row
from rooms.models import Status
from rooms.protocol.serials import encode


class OutcomeKind(StrEnum):
    """The state of a message after accept or decide."""

    PUBLISHED = "published"
    REJECTED = "rejected"
    HELD = "held"
    PENDING = "pending"  # stored; it waits for a review or for an earlier message of its author
    STALE = "stale"  # only of decide: the message no longer awaited the step
    UNKNOWN = "unknown"  # only of decide: there is no such message


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one message (primary key), with its serial once published, or the error that refused it."""

    kind: OutcomeKind
    message: int
    serial: str | None = None
    error: ChatError | None = None


class SentOutcome(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """An outcome as a MessagePack array, sent to the gateway where the author waits."""

    message: int
    kind: str
    serial: str | None
    code: int | None
    reason: str
    detail: dict[str, object] | None


def outcome_of(row: Row, epoch: str) -> Outcome:
    """Return the outcome of a row in its current state."""
    if row.status == Status.PUBLISHED:
        assert row.created_serial is not None
        serial = encode(epoch, row.created_serial)
        return Outcome(kind=OutcomeKind.PUBLISHED, message=row.id, serial=serial)
    if row.status == Status.REJECTED:
        error = ChatError(row.error_code or Code.REJECTED_BY_MODERATION, row.reason, detail=row.detail)
        return Outcome(kind=OutcomeKind.REJECTED, message=row.id, error=error)
    return Outcome(kind=OutcomeKind.HELD if row.status == Status.HELD else OutcomeKind.PENDING, message=row.id)
