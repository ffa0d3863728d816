"""Signals of the log to the apps that build on it.

Each is sent inside the transaction that made the change. Receivers only write rows (the outbox); an exception undoes
the change. Arguments that cost something are built only if a signal has receivers. All signals but the last have
`rooms: dict[int, rooms.log.rows.LockedRoom]`: every room that the transaction has locked, so that receivers can take
locks of their own in one order.
"""

from __future__ import annotations

from django.dispatch import Signal

# `accepted: Sequence[tuple[int, rooms.log.content.Draft]]`: stored messages with their primary keys, in order, as their
# authors wrote them, before any change by the reviewers.
messages_accepted = Signal()

# `entries: Sequence[rooms.log.entries.Entry]`: messages that became visible, in order.
messages_published = Signal()

# `entries: Sequence[rooms.log.entries.Entry]` and `by: str`: published messages that were edited or hidden
# (`entry.wire.action`), at their new places, in order; `by` names the person or review step that changed them.
messages_amended = Signal()

# `ended: Sequence[rooms.review.endings.ReviewEnd]`: messages with a verdict of a reviewer or a moderator, and how
# their reviews ended. A message on which no reviewer gave a verdict has no review.
reviews_ended = Signal()

# `rooms: set[int]`: primary keys of rooms with no member and no message, locked, which are about to be removed.
# Receivers remove from the set those that they still need.
rooms_unused = Signal()
