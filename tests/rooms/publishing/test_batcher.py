"""Batching: at once while idle, all that gathered while busy, in order, within its bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rooms.publishing.batcher import Batcher, Full
from tests.patience import PATIENCE


class Work:
    """Takes batches when it is told to, and gives every item back in capitals."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.batches: list[list[str]] = []

    async def __call__(self, items: Sequence[str]) -> list[str]:
        self.batches.append(list(items))
        await self.go.wait()
        if "bad" in items:
            raise ValueError
        return [item.upper() for item in items]


async def test_an_idle_batcher_starts_with_the_first_and_then_takes_all_that_gathered() -> None:
    work = Work()
    batcher: Batcher[str, str] = Batcher(work, max_batch=10, max_waiting=10)
    first = batcher.submit("a")
    while not work.batches:
        await asyncio.sleep(0)
    rest = [batcher.submit(item) for item in "bcd"]
    work.go.set()

    assert await asyncio.gather(first, *rest) == ["A", "B", "C", "D"]
    assert work.batches == [["a"], ["b", "c", "d"]]


async def test_what_is_heavier_than_the_queue_may_be_is_refused_unless_the_queue_is_empty() -> None:
    work = Work()
    batcher: Batcher[str, str] = Batcher(work, max_batch=2, max_waiting=5)
    batcher.submit("heavy", weight=9)
    with pytest.raises(Full):
        batcher.submit("light")
    while batcher.waiting:
        await asyncio.sleep(0)
    batcher.submit("light", weight=5)
    with pytest.raises(Full):
        batcher.submit("one more")
    work.go.set()
    await batcher.close()

    assert work.batches == [["heavy"], ["light"]]


async def test_a_batch_that_fails_fails_for_its_own_items_only() -> None:
    work = Work()
    work.go.set()
    batcher: Batcher[str, str] = Batcher(work, max_batch=2, max_waiting=9)
    results = await asyncio.gather(*map(batcher.submit, ["a", "bad", "b", "c"]), return_exceptions=True)

    assert [type(result) for result in results] == [ValueError, ValueError, str, str]


async def test_a_pause_gathers_what_comes_and_an_idle_batcher_makes_none() -> None:
    work = Work()
    batcher: Batcher[str, str] = Batcher(work, max_batch=10, max_waiting=10, pause=3600.0)
    futures = [batcher.submit("a")]
    while not work.batches:
        await asyncio.sleep(0)
    futures.append(batcher.submit("b"))
    work.go.set()
    await futures[0]
    futures.append(batcher.submit("c"))  # it comes in the pause, which is no longer than the first batch took
    await asyncio.gather(*futures)
    await batcher.close()

    assert work.batches == [["a"], ["b", "c"]]


@given(weights=st.lists(st.integers(1, 7), min_size=1, max_size=30))
def test_batches_keep_the_order_and_exceed_their_weight_only_by_a_single_item(weights: list[int]) -> None:
    async def run() -> list[list[str]]:
        work = Work()
        work.go.set()
        batcher: Batcher[str, str] = Batcher(work, max_batch=5, max_waiting=1000)
        await asyncio.gather(*(batcher.submit(f"{place}", weight) for place, weight in enumerate(weights)))
        return work.batches

    batches = asyncio.run(run())
    assert [item for batch in batches for item in batch] == [f"{place}" for place in range(len(weights))]
    for batch in batches:
        assert len(batch) == 1 or sum(weights[int(item)] for item in batch) <= 5


async def test_what_comes_while_others_are_still_busy_with_the_last_batch_is_gathered() -> None:
    work = Work()
    work.go.set()
    batcher: Batcher[str, str] = Batcher(work, max_batch=10, max_waiting=10, rest=lambda items: 0.02)
    await batcher.submit("a", urgent=False)
    await asyncio.gather(*(batcher.submit(item, urgent=False) for item in "bc"))

    assert work.batches == [["a"], ["b", "c"]]


@pytest.mark.parametrize("ends", ["urgent", "full", "close"])
async def test_a_rest_ends_with_what_is_urgent_a_full_batch_or_the_end(ends: str) -> None:
    work = Work()
    work.go.set()
    batcher: Batcher[str, str] = Batcher(work, max_batch=3, max_waiting=10, rest=lambda items: 3600.0)
    await batcher.submit("a", urgent=False)
    late = batcher.submit("b", urgent=False)
    for _ in range(5):
        await asyncio.sleep(0)
    assert not late.done()
    if ends == "urgent":
        batcher.submit("c")
    elif ends == "full":
        batcher.submit("c", weight=2, urgent=False)
    else:
        await batcher.close()

    assert await asyncio.wait_for(late, PATIENCE) == "B"
    await batcher.close()


async def test_an_urgent_item_that_comes_during_a_batch_is_not_held_back_after_it() -> None:
    work = Work()
    batcher: Batcher[str, str] = Batcher(work, max_batch=3, max_waiting=10, rest=lambda items: 3600.0)
    batcher.submit("a", urgent=False)
    while not work.batches:
        await asyncio.sleep(0)
    urgent = batcher.submit("b")
    work.go.set()

    assert await asyncio.wait_for(urgent, PATIENCE) == "B"
    await batcher.close()
