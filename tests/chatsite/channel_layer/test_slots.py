"""What a node of a cluster tells of the slots."""

from __future__ import annotations

from typing import Any

import pytest

from chatsite.channel_layer.slots import Slots, read


@pytest.mark.parametrize(
    ("host", "place"), [(b"10.0.0.2", "10.0.0.2"), (b"", "asked"), (b"?", "asked"), (None, "asked")]
)
def test_a_node_that_does_not_know_its_name_is_the_one_that_was_asked(host: Any, place: str) -> None:
    reply = [[0, 1, [host, 7000, b"id", []], [b"10.0.0.9", 7001, b"replica", []]], [3, 3, [b"b", 7002, b"id"]]]

    assert read(reply, asked="asked") == {0: (place, 7000), 1: (place, 7000), 3: ("b", 7002)}


def test_a_slot_that_nobody_has_is_nowhere() -> None:
    slots = Slots({5: ("a", 1)})

    assert slots.place_of("anything else") is None
    assert slots.places() == {("a", 1)}
