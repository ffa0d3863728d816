"""Batches items while its work is busy, and never delays one while it is idle."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Full(Exception):
    """The queue is full; the caller should try again later."""


class Batcher(Generic[Item, Result]):
    """Hands items to `work` in batches, one batch at a time, in order.

    An idle batcher starts at once with its first item. `work` gets items of up to `max_batch` weight together, at
    least one, and returns one result for each; if it raises, every item of the batch gets that exception. If items
    wait already, the next batch follows after a pause as long as the last batch took, at most `pause` seconds.

    `rest` returns for how many seconds a finished batch keeps others busy (here, the passes over its rooms). Items that
    come in that time are gathered, since they would only wait there. An urgent item, which would not, ends the rest.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        *,
        max_batch: int,
        max_waiting: int,
        pause: float = 0.0,
        rest: Callable[[Sequence[Item]], float] = lambda items: 0.0,
    ) -> None:
        self._work = work
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._pause = pause
        self._rest = rest
        self._resting: asyncio.Future[None] | None = None
        self._is_urgent = False
        self._waiting: deque[tuple[Item, int, asyncio.Future[Result]]] = deque()
        self._weight = 0
        self._worker: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """The weight of all items that wait for the next batches."""
        return self._weight

    def submit(self, item: Item, weight: int = 1, *, urgent: bool = True) -> asyncio.Future[Result]:
        """Queue an item and return the future of its result. Raises Full, but not if nothing waits."""
        if self._weight and self._weight + weight > self._max_waiting:
            raise Full
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, weight, future))
        self._weight += weight
        self._is_urgent |= urgent
        if self._worker is None:
            self._worker = asyncio.create_task(self._run(), name="batcher")
        elif urgent or self._weight >= self._max_batch:
            self._end_rest()
        return future

    async def close(self) -> None:
        """Wait until everything queued has its result. The caller bounds the wait."""
        self._rest = lambda items: 0.0
        self._end_rest()
        while self._worker is not None:
            await asyncio.wait([self._worker])

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                began = loop.time()
                items, futures = self._next_batch()
                await self._do(items, futures)
                await self._hold_back(loop.time() - began, self._rest(items))
        finally:
            self._worker = None

    async def _hold_back(self, took: float, rest: float) -> None:
        if rest > 0 and not self._is_urgent and self._weight < self._max_batch:
            loop = asyncio.get_running_loop()
            self._resting = loop.create_future()
            timer = loop.call_later(rest, self._end_rest)
            try:
                await self._resting
            finally:
                timer.cancel()
                self._resting = None
        elif 0 < self._weight < self._max_batch:
            await asyncio.sleep(min(took, self._pause))

    def _end_rest(self) -> None:
        if self._resting is not None and not self._resting.done():
            self._resting.set_result(None)

    def _next_batch(self) -> tuple[list[Item], list[asyncio.Future[Result]]]:
        items: list[Item] = []
        futures: list[asyncio.Future[Result]] = []
        taken = 0
        while self._waiting and (not items or taken + self._waiting[0][1] <= self._max_batch):
            item, weight, future = self._waiting.popleft()
            items.append(item)
            futures.append(future)
            taken += weight
        self._weight -= taken
        self._is_urgent &= bool(self._waiting)
        return items, futures

    async def _do(self, items: list[Item], futures: list[asyncio.Future[Result]]) -> None:
        try:
            results = await self._work(items)
            assert len(results) == len(items)
        except asyncio.CancelledError:
            for future in futures:
                future.cancel()
            raise
        except Exception as error:
            for future in futures:
                if not future.done():
                    future.set_exception(error)
            return
        for future, result in zip(futures, results, strict=True):
            if not future.done():
                future.set_result(result)
