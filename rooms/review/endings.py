"""The ends of reviews, as the signal `reviews_ended` reports them to other apps."""

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
    """The end of a message's review."""

    PUBLISHED = "published"
    REJECTED = "rejected"
    HELD = "held"  # a moderator decides
    RETRACTED = "retracted"  # it was published, and a late verdict hid it
    RESTORED = "restored"  # it was rejected or held, and a late verdict published it


ENDINGS = {Status.PUBLISHED: Ending.PUBLISHED, Status.REJECTED: Ending.REJECTED, Status.HELD: Ending.HELD}


class ReviewEnd(msgspec.Struct, frozen=True, kw_only=True):
    """The end of one message's review.

    `by` is the step that decided: `reviewer:step`, `deadline of ...`, `late ...`, or the moderator.
    """

    row: Row
    place: LockedRoom
    ending: Ending
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
        """The message as the wire shows it; without a serial if it is not published."""
        return wire_of(self.row, self.place.epoch)


def end_of(row: Row, place: LockedRoom, by: str, verdict: Verdict, ending: Ending | None = None) -> ReviewEnd | None:
    """Return the end of a row's review; None while it goes on, or waits for its author's order.

    `ending` applies only to a published row; for any other its status says how the review ended.
    """
    if row.status not in ENDINGS:
        return None
    is_published = ending is not None and row.status == Status.PUBLISHED
    return make(row, place, by, verdict, ending if ending and is_published else ENDINGS[row.status])


def make(row: Row, place: LockedRoom, by: str, verdict: Verdict, ending: Ending) -> ReviewEnd:
    """Return the end of a row's review by this verdict."""
    code = row.error_code if row.status == Status.REJECTED else verdict.code
    return ReviewEnd(
        row=row, place=place, ending=ending, by=by, reason=verdict.reason, code=code, detail=verdict.detail
    )


def send(ends: Sequence[ReviewEnd], rooms: dict[int, LockedRoom]) -> None:
    """Signal the ends of reviews to the apps, which write to their outboxes, in the same transaction. Writes."""
    if ends:
        signals.reviews_ended.send(sender=None, ended=ends, rooms=rooms)
