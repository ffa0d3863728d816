"""Decides which messages of an author are ready: they are published in the order of their acceptance. Pure.

A message is undecided while a reviewer still owes its verdict (ACCEPTED), or while it is approved and an older message
of its author is undecided (APPROVED). So an approved message is ready as soon as nothing undecided of its author is
older. Rejected, held and published messages hold back nobody: a held one leaves the line, and a moderator publishes it
out of turn.

    author's messages, oldest first          ready
    approved                                 the first
    accepted, approved                       none
    approved, approved, accepted, approved   the first two
    held, approved                           the second
    (others' accepted), approved             the second: authors do not wait for each other

Accepting and deciding know different parts of an author's line. Accepting knows its new messages, and which authors
have older undecided ones: `find_ready` with `blocked`. Deciding knows the messages of its decisions, and the oldest
other undecided message of each author: `find_ready_among`. If that message is approved, it waited only for a message of
these decisions, and more messages may be ready: then rooms.log.author_queries reads the line for `find_ready`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple, Protocol, TypeVar

from rooms.models import Status

UNDECIDED = (Status.ACCEPTED, Status.APPROVED)

Author = tuple[int, str]  # a room's primary key, and the author in it


class InLine(Protocol):
    """The fields of a message that its author's order depends on. Primary keys grow in the order of acceptance."""

    @property
    def id(self) -> int:
        """Primary key."""

    @property
    def room_id(self) -> int:
        """Primary key of the room."""

    @property
    def author(self) -> str:
        """Name under which the messages of one author are kept in order."""

    @property
    def status(self) -> Status:
        """State of the message, as the current transaction has left it."""


class OldestOther(NamedTuple):
    """The oldest undecided message of an author, apart from those that the current transaction decides."""

    id: int
    status: Status


Message = TypeVar("Message", bound=InLine)


def author_of(message: InLine) -> Author:
    """Return the author in whose order a message stands."""
    return message.room_id, message.author


def find_ready(messages: Iterable[Message], *, blocked: Collection[Author] = ()) -> list[Message]:
    """Return the approved messages whose authors have no older undecided message.

    `messages` are in order of acceptance. `blocked` are authors with undecided messages older than all of these.
    """
    waiting = set(blocked)
    ready: list[Message] = []
    for message in messages:
        if message.status == Status.ACCEPTED:
            waiting.add(author_of(message))
        elif message.status == Status.APPROVED and author_of(message) not in waiting:
            ready.append(message)
    return ready


def find_ready_among(
    messages: Iterable[Message], oldest_others: Mapping[Author, OldestOther]
) -> tuple[list[Message], set[Author]]:
    """Return the ready messages, and the authors whose lines must be read to find their ready messages.

    `messages` are all that a transaction has read of these authors, in any order.
    """
    unclear = {author for author, other in oldest_others.items() if other.status == Status.APPROVED}
    clear = sorted((message for message in messages if author_of(message) not in unclear), key=_place)
    ready = [
        message
        for message in find_ready(clear)
        if (other := oldest_others.get(author_of(message))) is None or message.id < other.id
    ]
    return ready, unclear


def _place(message: InLine) -> int:
    return message.id
