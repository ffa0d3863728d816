"""What the log says to the apps that build on it."""

from __future__ import annotations

from django.dispatch import Signal

# Sent inside the publishing transaction with `messages: Sequence[rooms.log.Entry]` and `rooms: dict[int, Room-like]`.
# Receivers only write rows (the outbox); an exception undoes the publishing.
messages_published = Signal()
