"""The check of a run's log as a whole, after the manner of Jepsen: what was acknowledged must be in it, once. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Set
from dataclasses import dataclass
from typing import NamedTuple


class Token(NamedTuple):
    """A message as its publisher knows it: who published it, and as which of its own."""

    publisher: int
    number: int


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What is wrong with a log. All zero: nothing."""

    missing: int = 0  # acknowledged, and nobody received it
    leaked: int = 0  # rejected for good, and somebody received it
    twice: int = 0  # published at more than one place
    disordered: int = 0  # published before an earlier one of the same publisher
    divergent: int = 0  # places at which members saw different messages

    def __bool__(self) -> bool:
        return bool(self.missing or self.leaked or self.twice or self.disordered or self.divergent)


Place = tuple[int, Token]  # a serial, and the message that a member received under it


def check(places: Set[Place], acknowledged: Iterable[Token], rejected: Iterable[Token] = ()) -> Findings:
    """Compare what members received, all of them together, with what publishers were told."""
    messages = Counter(token for _, token in places)
    return Findings(
        missing=sum(token not in messages for token in set(acknowledged)),
        leaked=sum(token in messages for token in set(rejected)),
        twice=sum(count - 1 for count in messages.values()),
        disordered=_disordered(places),
        divergent=len(places) - len({serial for serial, _ in places}),
    )


def _disordered(places: Set[Place]) -> int:
    """Count the messages that come after a later one of their publisher."""
    newest: dict[int, int] = {}
    found = 0
    for _, token in sorted(places):
        if token.number < newest.get(token.publisher, -1):
            found += 1
        newest[token.publisher] = max(token.number, newest.get(token.publisher, -1))
    return found
