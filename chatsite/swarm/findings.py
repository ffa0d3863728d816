"""The check of a run's logs as a whole, after the manner of Jepsen: what was acknowledged must be in them, once. Pure.

Each room is a log of its own. A room is named by its number in the plan.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Set
from dataclasses import astuple, dataclass
from typing import NamedTuple


class Token(NamedTuple):
    """A message as its publisher knows it: who published it, and as which of its own."""

    publisher: int
    number: int


class Place(NamedTuple):
    """Where a message was received: the room, the serial, and which message it was."""

    room: int
    serial: int
    token: Token


Sent = tuple[int, Token]  # the room to which a message was published, and the message


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What is wrong with a log. All zero: nothing."""

    missing: int = 0  # acknowledged, and nobody in that room received it
    leaked: int = 0  # rejected for good, and somebody received it
    twice: int = 0  # published at more than one place of the room
    disordered: int = 0  # published before an earlier one of the same publisher
    divergent: int = 0  # places at which members saw different messages

    def __bool__(self) -> bool:
        return any(astuple(self))

    def __add__(self, other: Findings) -> Findings:
        fields = ("missing", "leaked", "twice", "disordered", "divergent")
        return Findings(**{name: getattr(self, name) + getattr(other, name) for name in fields})


def check(places: Set[Place], acknowledged: Iterable[Sent], rejected: Iterable[Sent] = ()) -> dict[int, Findings]:
    """Compare what members received, all of them together, with what publishers were told. By room; only faults."""
    received: defaultdict[int, set[Place]] = defaultdict(set)
    kept: defaultdict[int, set[Token]] = defaultdict(set)
    refused: defaultdict[int, set[Token]] = defaultdict(set)
    for place in places:
        received[place.room].add(place)
    for told, by_room in ((acknowledged, kept), (rejected, refused)):
        for room, token in told:
            by_room[room].add(token)
    rooms = sorted({*received, *kept, *refused})
    return {room: found for room in rooms if (found := check_room(received[room], kept[room], refused[room]))}


def check_room(places: Set[Place], acknowledged: Set[Token], rejected: Set[Token]) -> Findings:
    """Compare one room's log with what its publishers were told."""
    messages = Counter(place.token for place in places)
    return Findings(
        missing=sum(token not in messages for token in acknowledged),
        leaked=sum(token in messages for token in rejected),
        twice=sum(count - 1 for count in messages.values()),
        disordered=_disordered(places),
        divergent=len(places) - len({place.serial for place in places}),
    )


def _disordered(places: Set[Place]) -> int:
    """Count the messages that come after a later one of their publisher."""
    newest: dict[int, int] = {}
    found = 0
    for _, _, token in sorted(places):
        if token.number < newest.get(token.publisher, -1):
            found += 1
        newest[token.publisher] = max(token.number, newest.get(token.publisher, -1))
    return found
