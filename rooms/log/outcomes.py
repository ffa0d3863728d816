"""What became of a message, as its author and its reviewers are told."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from rooms.errors import ChatError, Code
from rooms.log.rows import Row
from rooms.models import Status
from rooms.protocol.serials import encode


class OutcomeKind(StrEnum):
    """Where a message stands after accept or decide."""

    PUBLISHED = "published"
    REJECTED = "rejected"
    HELD = "held"
    PENDING = "pending"  # durable; a review or an earlier message of its author comes first
    STALE = "stale"  # decide only: that step was already decided
    UNKNOWN = "unknown"  # decide only: no such message


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one message: its primary key, its place on the wire once published, or why it was refused."""

    kind: OutcomeKind
    message: int
    serial: str | None = None
    error: ChatError | None = None


class News(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """An outcome on its way to the gateway whose author waits."""

    message: int
    kind: str
    serial: str | None
    code: int | None
    reason: str
    detail: dict[str, object] | None


def outcome_of(row: Row, epoch: str) -> Outcome:
    """Return where a row stands."""
    if row.status == Status.PUBLISHED:
        assert row.created_serial is not None
        serial = encode(epoch, row.created_serial)
        return Outcome(kind=OutcomeKind.PUBLISHED, message=row.id, serial=serial)
    if row.status == Status.REJECTED:
        error = ChatError(row.error_code or Code.REJECTED_BY_MODERATION, row.reason, detail=row.detail)
        return Outcome(kind=OutcomeKind.REJECTED, message=row.id, error=error)
    return Outcome(kind=OutcomeKind.HELD if row.status == Status.HELD else OutcomeKind.PENDING, message=row.id)
