"""Changing what is already visible: the message moves to the next place in the log, and members see it change."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime

from django.db import transaction
from msgspec.structs import replace

from rooms import announce, queries, release
from rooms.models import MessageAction, MessageVersion, Status
from rooms.review import Content
from rooms.rows import Row


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
        rooms = queries.lock_rooms({row.room_id for row in queries.find(messages).values()})
        rows = [
            row
            for row in queries.find(messages).values()
            if row.status == Status.PUBLISHED and row.action != MessageAction.DELETE
        ]
        MessageVersion.objects.bulk_create(_version_of(row, by, now) for row in rows)
        for row in rows:
            row.content = change(row.content)
            row.action = action
            release.move(row, rooms[row.room_id], now)
        queries.update(rows)
        announce.after_commit(entries=release.store(rows, rooms))
    return len(rows)


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
