"""Changes the status, the serial and the deadline of messages; no other module does.

    approved ──▶ accepted ──▶ approved ──▶ published ──▶ published at a later serial (edited, hidden)
        │       (a reviewer    │   (its author's order)
        │        owes a        ├──▶ held ──▶ published | rejected (a moderator decides)
        └──────▶ verdict)      └──▶ rejected

Functions change a row in memory, under the lock of its room; their callers store it. A verdict that comes after its
deadline may also take an unpublished row back to the step that it awaited (`reopen`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from rooms.errors import Code
from rooms.log.content import Content, Draft
from rooms.log.rows import LockedRoom, Row
from rooms.models import MessageAction, Status

MODERATOR = "moderator"  # the step that a held message awaits
REASON_MAX_CHARACTERS = 500


def start(draft: Draft, now: datetime) -> Row:
    """Return the row of a draft before its review: approved, until a reviewer objects."""
    return Row(
        room_id=draft.room_id,
        message_id=draft.message_id,
        author=draft.author,
        client_id=draft.client_id,
        connection_id=draft.connection_id,
        content=draft.content,
        origin=draft.origin,
        status=Status.APPROVED,
        accepted_at=now,
    )


def await_verdict(row: Row, step: str, *, deadline: datetime, at_deadline: str) -> None:
    """Make a row wait for the verdict of a review step, "reviewer:step", until a deadline."""
    row.status, row.awaiting, row.deadline, row.at_deadline = Status.ACCEPTED, step, deadline, at_deadline


def approve(row: Row) -> None:
    """Approve a row; it will be published in its author's order."""
    row.status = Status.APPROVED
    _await_nothing(row)


def hold(row: Row, *, reason: str) -> None:
    """Hold a row for a moderator. Its author's later messages no longer wait for it."""
    row.status = Status.HELD
    _await_nothing(row)
    row.awaiting = MODERATOR
    row.reason = reason[:REASON_MAX_CHARACTERS]


def reject(row: Row, *, code: int | None, reason: str, detail: dict[str, Any] | None) -> None:
    """Reject a row. Its author gets the code, the reason and the detail."""
    row.status = Status.REJECTED
    _await_nothing(row)
    row.error_code = code or Code.REJECTED_BY_MODERATION
    row.reason = (reason or "The message was refused by a moderator.")[:REASON_MAX_CHARACTERS]
    row.detail = detail


def reopen(row: Row, step: str) -> None:
    """Take an unpublished row back to the review step that it awaited, for a late verdict."""
    assert row.serial is None
    row.status = Status.APPROVED
    _await_nothing(row)
    row.awaiting = step
    row.error_code, row.reason, row.detail = None, "", None


def publish(row: Row, room: LockedRoom, now: datetime) -> None:
    """Publish a row: give it the next serial of its room. The caller stores the room's head too."""
    assert row.serial is None and row.room_id == room.id
    row.status = Status.PUBLISHED
    row.serial = row.created_serial = room.next_serial()
    row.published_at = now
    _await_nothing(row)


def change(row: Row, action: MessageAction, content: Content, room: LockedRoom, now: datetime) -> None:
    """Edit or hide a published row: give it the next serial of its room. The caller stores the room's head too."""
    assert row.serial is not None and row.room_id == room.id
    row.content, row.action = content, action
    row.serial = room.next_serial()
    row.changed_at = now


def _await_nothing(row: Row) -> None:
    row.awaiting, row.deadline, row.at_deadline = "", None, ""
