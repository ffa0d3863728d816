from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chatsite.swarm.members.cursor import Cursor


def seen(*serials: int, start: int = 0) -> Cursor:
    cursor = Cursor(start)
    for serial in serials:
        cursor.add(serial)
    return cursor


def verdict(cursor: Cursor, head: int) -> tuple[int, int, int]:
    return cursor.lost(head), cursor.duplicated, cursor.out_of_order


def test_an_unbroken_log_is_without_fault() -> None:
    assert verdict(seen(4, 5, 6, start=3), head=6) == (0, 0, 0)


def test_a_hole_is_a_loss() -> None:
    assert verdict(seen(1, 2, 5), head=5) == (2, 0, 0)


def test_a_missing_end_is_a_loss() -> None:
    assert verdict(seen(1, 2), head=5) == (3, 0, 0)


def test_a_second_copy_is_a_duplicate_and_no_loss() -> None:
    assert verdict(seen(1, 2, 2, 3, 1), head=3) == (0, 2, 0)


def test_two_swapped_messages_are_out_of_order_and_no_loss() -> None:
    assert verdict(seen(1, 3, 2, 4), head=4) == (0, 0, 1)


def test_what_the_server_admits_to_have_skipped_is_lost() -> None:
    cursor = seen(1, 2)
    assert cursor.jump(5)
    assert not cursor.jump(5)
    assert verdict(cursor, head=5) == (3, 0, 0)
    assert cursor.skipped == 3


@given(st.lists(st.integers(1, 30), max_size=60))
def test_it_counts_as_a_plain_model_does(serials: list[int]) -> None:
    cursor = seen(*serials)
    head = max(serials, default=0)
    assert cursor.lost(head) == head - len(set(serials))
    assert cursor.duplicated == len(serials) - len(set(serials))
    first_copies = list(dict.fromkeys(serials))
    assert cursor.out_of_order == sum(
        serial < max(first_copies[: place + 1]) for place, serial in enumerate(first_copies)
    )
