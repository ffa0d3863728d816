"""The check of a run's logs as a whole, after the manner of Jepsen: acknowledged messages must be in them, once. Pure.

Each room is a log of its own. A room is named by its number in the plan.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Set

from chatsite.swarm.results.tally import Faults, Place, Sent, Token


def check(places: Set[Place], acknowledged: Iterable[Sent], rejected: Iterable[Sent] = ()) -> dict[int, Faults]:
    """Return the faults of each room that has any: its log as received, against the publishers' answers."""
    received: defaultdict[int, set[Place]] = defaultdict(set)
    for place in places:
        received[place.room].add(place)
    kept, refused = _by_room(acknowledged), _by_room(rejected)
    found = {
        room: check_room(received[room], kept[room], refused[room]) for room in sorted({*received, *kept, *refused})
    }
    return {room: faults for room, faults in found.items() if faults.count}


def check_room(places: Set[Place], acknowledged: Set[Token], rejected: Set[Token]) -> Faults:
    """Return the faults of one room's log, against the answers that its publishers received."""
    messages = Counter(place.token for place in places)
    return Faults(
        duplicated=sum(count - 1 for count in messages.values()),
        out_of_order=_overtaken(places),
        acknowledged_but_missing=sum(token not in messages for token in acknowledged),
        rejected_but_published=sum(token in messages for token in rejected),
        divergent=len(places) - len({place.serial for place in places}),
    )


def _by_room(messages: Iterable[Sent]) -> defaultdict[int, set[Token]]:
    rooms: defaultdict[int, set[Token]] = defaultdict(set)
    for room, token in messages:
        rooms[room].add(token)
    return rooms


def _overtaken(places: Set[Place]) -> int:
    """Return the number of messages that come after a later one of their publisher."""
    newest: dict[int, int] = {}
    found = 0
    for _, _, token in sorted(places):
        highest = newest.get(token.publisher, -1)
        found += token.number < highest
        newest[token.publisher] = max(token.number, highest)
    return found
