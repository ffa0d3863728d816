from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chatsite.swarm.results.findings import check
from chatsite.swarm.results.tally import Faults, Place, Token

A1, A2, A3, B1 = Token(0, 1), Token(0, 2), Token(0, 3), Token(1, 1)


def log(*tokens: Token, room: int = 0) -> set[Place]:
    return {Place(room, serial, token) for serial, token in enumerate(tokens, start=1)}


def in_room(room: int, *tokens: Token) -> list[tuple[int, Token]]:
    return [(room, token) for token in tokens]


def test_a_log_with_all_that_was_acknowledged_is_without_fault() -> None:
    assert check(log(A1, B1, A2), in_room(0, A1, A2, B1)) == {}


def test_what_was_acknowledged_and_never_received_is_missing() -> None:
    assert check(log(A1), in_room(0, A1, A2)) == {0: Faults(acknowledged_but_missing=1)}


def test_what_was_received_without_an_acknowledgement_is_no_fault() -> None:
    assert check(log(A1, A2), in_room(0, A1)) == {}


def test_what_was_rejected_and_received_all_the_same_is_a_leak() -> None:
    assert check(log(A1), [], in_room(0, A1, A2)) == {0: Faults(rejected_but_published=1)}


def test_a_message_at_two_places_was_published_twice() -> None:
    assert check(log(A1, A1), in_room(0, A1)) == {0: Faults(duplicated=1)}


def test_an_author_overtaken_by_itself_is_out_of_order() -> None:
    assert check(log(A1, A3, B1, A2), []) == {0: Faults(out_of_order=1)}


def test_two_messages_under_one_serial_are_a_divergence() -> None:
    assert check({Place(0, 1, A1), Place(0, 1, B1)}, [])[0].divergent == 1


def test_a_message_that_came_out_in_another_room_is_missing_in_its_own() -> None:
    assert check(log(A1, room=7), in_room(3, A1)) == {3: Faults(acknowledged_but_missing=1)}


def test_each_room_is_a_log_of_its_own() -> None:
    places = log(A1, A2, room=0) | log(A2, A1, room=1) | log(B1, room=2)
    assert check(places, in_room(2, B1, A3)) == {1: Faults(out_of_order=1), 2: Faults(acknowledged_but_missing=1)}


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.data())
def test_one_mistake_in_one_of_many_faultless_rooms_is_found_there(sizes: list[int], data: st.DataObject) -> None:
    """Serials are gap-free, numbers rise: dropping, doubling or leaking one message is one fault, in that room."""
    tokens = {room: [Token(room, number) for number in range(size)] for room, size in enumerate(sizes)}
    places = set[Place]().union(*(log(*of_room, room=room) for room, of_room in tokens.items()))
    acknowledged = [(room, token) for room, of_room in tokens.items() for token in of_room]
    assert check(places, acknowledged) == {}
    room = data.draw(st.sampled_from(range(len(sizes))))
    token = data.draw(st.sampled_from(tokens[room]))
    dropped = {place for place in places if place.token != token}
    assert check(dropped, acknowledged) == {room: Faults(acknowledged_but_missing=1)}
    again = Place(room, sizes[room] + 1, token)
    disordered = token != tokens[room][-1]
    assert check(places | {again}, acknowledged) == {room: Faults(duplicated=1, out_of_order=int(disordered))}
    assert check(places, acknowledged, [(room, token)]) == {room: Faults(rejected_but_published=1)}
