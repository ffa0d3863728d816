"""Passes: everybody gets a turn, whoever is large."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from rooms.fanout.passes import Passes


def count_down(name: int, steps: int, log: list[int]) -> Iterator[None]:
    for step in range(steps):
        if step:
            yield
        log.append(name)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=12))
def test_all_end_and_the_short_ones_wait_for_one_step_of_each_other(lengths: list[int]) -> None:
    async def run() -> list[int]:
        passes, log = Passes(slice_seconds=0.0), list[int]()
        await asyncio.gather(*(passes.run(count_down(name, steps, log)) for name, steps in enumerate(lengths)))
        assert passes.waiting == 0
        return log

    log = asyncio.run(run())
    assert sorted(log) == sorted(name for name, steps in enumerate(lengths) for _ in range(steps))
    for name, steps in enumerate(lengths):
        if steps == 1:
            assert log.index(name) < 2 * len(lengths)


async def test_what_starts_later_is_served_before_what_goes_on() -> None:
    passes, log = Passes(slice_seconds=0.0), list[int]()
    passes.start(count_down(1, 100, log))
    for _ in range(10):
        await asyncio.sleep(0)
    await passes.run(count_down(2, 1, log))

    assert log.index(2) < 15


async def test_a_stream_of_short_ones_does_not_starve_a_long_one() -> None:
    passes, log = Passes(slice_seconds=0.0), list[int]()
    passes.start(count_down(1, 20, log))
    turns = 0
    while log.count(1) < 20:
        for _ in range(3):
            passes.start(count_down(2, 1, log))
        await asyncio.sleep(0)
        turns += 1

    assert turns <= 60


async def test_one_that_fails_takes_no_other_with_it() -> None:
    def fail() -> Iterator[None]:
        yield
        raise RuntimeError("a fault")

    passes, log = Passes(slice_seconds=0.0), list[int]()
    failing = asyncio.create_task(passes.run(fail()))
    await passes.run(count_down(1, 5, log))
    await failing

    assert log == [1] * 5
