"""Batch while busy, never while idle: whoever is slow takes all that gathered as its next batch."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Full(Exception):
    """The queue holds as much as it may; the caller must be told to try again later."""


class Batcher(Generic[Item, Result]):
    """Hands items to `work` in batches, one batch at a time, in order.

    An idle batcher starts at once with what it got. `work` gets 1 to `max_batch` items and returns one result
    for each; if it raises, every item of the batch gets that exception.
    """

    def __init__(
        self, work: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]], *, max_batch: int, max_waiting: int
    ) -> None:
        self._work = work
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._worker: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """How many items wait for the next batches."""
        return len(self._waiting)

    def submit_all(self, items: Sequence[Item]) -> list[asyncio.Future[Result]]:
        """Queue items and return the futures of their results, in order. Raises Full and queues none."""
        if self._waiting and len(self._waiting) + len(items) > self._max_waiting:
            raise Full
        return [self._submit(item) for item in items]

    def submit(self, item: Item) -> asyncio.Future[Result]:
        """Queue an item and return the future of its result. Raises Full."""
        if len(self._waiting) >= self._max_waiting:
            raise Full
        return self._submit(item)

    def _submit(self, item: Item) -> asyncio.Future[Result]:
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._worker is None:
            self._worker = asyncio.create_task(self._run(), name="batcher")
        return future

    async def close(self) -> None:
        """Wait until everything queued has its result. The caller bounds the wait."""
        while self._worker is not None:
            await asyncio.wait([self._worker])

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._max_batch))]
                await self._do(batch)
        finally:
            self._worker = None

    async def _do(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._work([item for item, _ in batch])
            assert len(results) == len(batch)
        except asyncio.CancelledError:
            for _, future in batch:
                future.cancel()
            raise
        except Exception as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)
