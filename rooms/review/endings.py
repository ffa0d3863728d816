"""How reviews end, as the apps that build on the log are told."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import msgspec

from rooms.log import signals
from rooms.log.rows import LockedRoom, Row, wire_of
from rooms.models import Status
from rooms.protocol.wire import Message
from rooms.review.contract import Verdict


class Ending(StrEnum):
    """What became of a message."""

    PUBLISHED = "published"
    REJECTED = "rejected"
    HELD = "held"  # a moderator decides
    RETRACTED = "retracted"  # it was published, and a late verdict hid it
    RESTORED = "restored"  # it was rejected or held, and a late verdict published it


ENDINGS = {Status.PUBLISHED: Ending.PUBLISHED, Status.REJECTED: Ending.REJECTED, Status.HELD: Ending.HELD}


class Reviewed(msgspec.Struct, frozen=True, kw_only=True):
    """One message whose review ended. `by` is the step, `deadline of` a step, `late` with a step, or the moderator."""

    row: Row
    place: LockedRoom
    kind: Ending
    by: str
    reason: str = ""
    code: int | None = None
    detail: dict[str, Any] | None = None

    @property
    def pk(self) -> int:
        """The message's primary key."""
        return self.row.id

    @property
    def room_id(self) -> int:
        """The room's primary key."""
        return self.row.room_id

    @property
    def room(self) -> str:
        """The room's name."""
        return self.place.name

    @property
    def serial(self) -> int | None:
        """The message's place in the log now; None where it has none."""
        return self.row.serial

    @property
    def message(self) -> Message:
        """The message in its public shape, without a serial where it is not published."""
        return wire_of(self.row, self.place.epoch)


def ending_of(row: Row, place: LockedRoom, by: str, verdict: Verdict, kind: Ending | None = None) -> Reviewed | None:
    """Return how a row's review ended, `kind` where it was published; None while it goes on or waits for its turn."""
    if row.status not in ENDINGS:
        return None
    is_published = kind is not None and row.status == Status.PUBLISHED
    return ended(row, place, by, verdict, kind if kind and is_published else ENDINGS[row.status])


def ended(row: Row, place: LockedRoom, by: str, verdict: Verdict, kind: Ending) -> Reviewed:
    """Return that a row's review ended so."""
    code = row.error_code if row.status == Status.REJECTED else verdict.code
    return Reviewed(row=row, place=place, kind=kind, by=by, reason=verdict.reason, code=code, detail=verdict.detail)


def tell(ended: Sequence[Reviewed], rooms: dict[int, LockedRoom]) -> None:
    """Write: tell the apps (their outbox) how reviews ended, in the same transaction."""
    if ended:
        signals.reviews_ended.send(sender=None, ended=ended, rooms=rooms)
