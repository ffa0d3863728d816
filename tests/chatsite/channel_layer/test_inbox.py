"""The inbox: what waits is bounded by its bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some

from chatsite.channel_layer.inbox import OVERHEAD_BYTES, Inbox


@given(sizes=some.lists(some.integers(0, 3000), min_size=1))
async def test_the_newest_stay_in_order_within_the_limit(sizes: list[int]) -> None:
    inbox = Inbox(max_bytes=5000)
    for number, size in enumerate(sizes):
        inbox.put_nowait(bytes([number % 256]) * size)

    kept = [await inbox.get() for _ in range(len(inbox))]

    assert kept == [bytes([number % 256]) * size for number, size in enumerate(sizes)][inbox.dropped :]
    assert sum(len(message) + OVERHEAD_BYTES for message in kept) <= 5000
    assert len(kept) + inbox.dropped == len(sizes)


async def test_a_message_above_the_limit_passes_alone() -> None:
    inbox = Inbox(max_bytes=100)
    inbox.put_nowait(b"x" * 1000)

    assert len(await inbox.get()) == 1000
