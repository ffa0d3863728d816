"""Gateways on one socket know who holds the fewest, as long as it lives."""

from __future__ import annotations

from pathlib import Path

from chatsite.server.board import STALE_SECONDS, Board


def test_the_least_is_that_of_the_living_siblings_alone(tmp_path: Path) -> None:
    one, two, three = (Board.open(tmp_path / "board", place) for place in (1, 2, 3))
    assert one.least(100.0) is None

    one.write(5, 100.0)
    two.write(70, 100.0)
    three.write(40, 100.0 - STALE_SECONDS)  # it hangs
    assert one.least(100.0) == 70
    assert two.least(100.0) == 5

    three.write(40, 100.5)
    assert one.least(100.5) == 40
    two.erase()
    three.erase()
    assert one.least(100.5) is None
