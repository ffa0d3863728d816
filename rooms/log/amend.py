"""Edits and hides published messages. Each moves to the next place in the log, so that members see the change."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime

import msgspec
from django.db import transaction
from msgspec.structs import replace

from rooms.log import announce, lifecycle, message_queries, room_locks, signals
from rooms.log.content import Content
from rooms.log.entries import Entry
from rooms.log.rows import LockedRoom, Row, entries_of
from rooms.models import MessageAction, MessageVersion, Status


def hide(messages: Collection[int], *, by: str, now: datetime) -> int:
    """Remove the content of published messages (primary keys). Return how many were changed.

    The former content is kept as a MessageVersion. Messages that are hidden already, or not published, are skipped.
    """
    return _amend(messages, MessageAction.DELETE, lambda content: Content(name=content.name), by=by, now=now)


def edit(message: int, text: str, *, by: str, now: datetime) -> int:
    """Replace the text of a message (primary key). Return 1, or 0 if it is not published or is hidden."""
    return _amend(
        [message],
        MessageAction.UPDATE,
        lambda content: replace(content, text=text, binary=None, encoding=None),
        by=by,
        now=now,
    )


def _amend(
    messages: Collection[int],
    action: MessageAction,
    change: Callable[[Content], Content],
    *,
    by: str,
    now: datetime,
) -> int:
    with transaction.atomic():
        rooms = room_locks.lock_rooms({row.room_id for row in message_queries.find(messages).values()})
        rows = [
            row
            for row in message_queries.find(messages).values()
            if row.status == Status.PUBLISHED and row.action != MessageAction.DELETE
        ]
        changes = [Change(row=row, action=action, content=change(row.content), by=by) for row in rows]
        announce.after_commit(entries=apply(changes, rooms, now))
    return len(rows)


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A change of a published row: the new content, and the name of the person or review step behind it."""

    row: Row
    action: MessageAction
    content: Content
    by: str


def apply(changes: Sequence[Change], rooms: dict[int, LockedRoom], now: datetime) -> list[Entry]:
    """Change published rows, keep their former content and signal the apps. The rooms are locked. Writes.

    Returns the new entries of the log; the caller announces them.
    """
    if not changes:
        return []
    MessageVersion.objects.bulk_create(_version_of(change.row, change.by, now) for change in changes)
    for change in changes:
        lifecycle.change(change.row, change.action, change.content, rooms[change.row.room_id], now)
    rows = [change.row for change in changes]
    message_queries.update(rows)
    room_locks.move_heads({row.room_id: rooms[row.room_id] for row in rows}.values())
    entries = entries_of(rows, rooms)
    by_editor: dict[str, list[Entry]] = {}
    for change, entry in zip(changes, entries, strict=True):
        by_editor.setdefault(change.by, []).append(entry)
    for by, amended in by_editor.items():
        signals.messages_amended.send(sender=None, entries=amended, by=by, rooms=rooms)
    return entries


def _version_of(row: Row, by: str, now: datetime) -> MessageVersion:
    assert row.serial is not None
    return MessageVersion(
        message_id=row.id,
        serial=row.serial,
        action=row.action,
        name=row.content.name,
        text=row.content.text,
        binary=row.content.binary,
        encoding=row.content.encoding,
        extras=row.content.extras,
        replaced_at=now,
        replaced_by=by[:255],
    )
