"""Signals of the log to the apps that build on it.

Each is sent inside the transaction that made the change. Receivers only write rows (the outbox); an exception undoes
the change. Nothing is put together for a signal that nobody hears. All have
`rooms: dict[int, rooms.log.rows.LockedRoom]`: every room that the transaction has locked, so that receivers can take
locks of their own in one order.
"""

from __future__ import annotations

from django.dispatch import Signal

# `accepted: Sequence[tuple[int, rooms.log.content.Draft]]`: messages that were stored, by primary key, as their authors
# wrote them and in order, whatever the reviewers made of them in the same transaction.
messages_accepted = Signal()

# `entries: Sequence[rooms.log.entries.Entry]`: messages that became visible, in order.
messages_published = Signal()

# `entries: Sequence[rooms.log.entries.Entry]` and `by: str`: published messages that were edited or hidden
# (`entry.wire.action` tells which), at their new places, in order; who or what did it.
messages_amended = Signal()

# `ended: Sequence[rooms.review.endings.ReviewEnd]`: messages that a reviewer or a moderator gave a verdict on, and what
# became of them. A message on which no reviewer gave a verdict has no review that could end.
reviews_ended = Signal()
