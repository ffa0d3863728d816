from __future__ import annotations

from chatsite.swarm.findings import Findings, Token, check

A1, A2, A3, B1 = Token(0, 1), Token(0, 2), Token(0, 3), Token(1, 1)


def test_a_log_with_all_that_was_acknowledged_is_without_fault() -> None:
    assert not check({(1, A1), (2, B1), (3, A2)}, [A1, A2, B1])


def test_what_was_acknowledged_and_never_received_is_missing() -> None:
    assert check({(1, A1)}, [A1, A2]) == Findings(missing=1)


def test_what_was_received_without_an_acknowledgement_is_no_fault() -> None:
    assert not check({(1, A1), (2, A2)}, [A1])


def test_what_was_rejected_and_received_all_the_same_is_a_leak() -> None:
    assert check({(1, A1)}, [], rejected=[A1, A2]) == Findings(leaked=1)


def test_a_message_at_two_places_was_published_twice() -> None:
    assert check({(1, A1), (2, A1)}, [A1]) == Findings(twice=1)


def test_an_author_overtaken_by_itself_is_out_of_order() -> None:
    assert check({(1, A1), (2, A3), (3, B1), (4, A2)}, []) == Findings(disordered=1)


def test_two_messages_under_one_serial_are_a_divergence() -> None:
    assert check({(1, A1), (1, B1)}, []).divergent == 1
