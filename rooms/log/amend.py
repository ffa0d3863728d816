"""Changing what is already visible: the message moves to the next place in the log, and members see it change."""

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
    """Take the content out of published messages (primary keys) and return how many were changed.

    The former content is kept as a version. Messages that are hidden already, or not published, are left alone.
    """
    return _amend(messages, MessageAction.DELETE, lambda content: Content(name=content.name), by=by, now=now)


def edit(message: int, text: str, *, by: str, now: datetime) -> int:
    """Replace the text of a published message (primary key) and return 1, or 0 where it is not one."""
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
    """A published row, what it is to say, and who or what wants it so."""

    row: Row
    action: MessageAction
    content: Content
    by: str


def apply(changes: Sequence[Change], rooms: dict[int, LockedRoom], now: datetime) -> list[Entry]:
    """Change published rows under the locks of their rooms, keep their former content, and signal the apps. Writes.

    Return the log's new entries, for the caller to announce.
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
    by_whom: dict[str, list[Entry]] = {}
    for change, entry in zip(changes, entries, strict=True):
        by_whom.setdefault(change.by, []).append(entry)
    for by, amended in by_whom.items():
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
