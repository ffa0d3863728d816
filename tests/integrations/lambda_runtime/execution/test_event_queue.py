"""Asynchronous invocations: how often they are tried, and how many may wait."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from integrations.lambda_runtime import limits
from integrations.lambda_runtime.execution.event_queue import EventQueue
from integrations.lambda_runtime.execution.invocation import Failed, Invocation, Outcome, Returned
from integrations.lambda_runtime.execution.pool import Throttled
from integrations.lambda_runtime.log import Log

Eventually = Callable[..., Awaitable[None]]


class Scripted:
    """An invoker whose calls end as a list says."""

    def __init__(self, *ends: Outcome | Throttled) -> None:
        self.ends = [*ends]

    async def invoke(self, invocation: Invocation) -> Outcome:
        end = self.ends.pop(0)
        if isinstance(end, Throttled):
            raise end
        return end


def create() -> Invocation:
    return Invocation(request_id="r", trace_id="t", event=b"{}")


async def test_an_event_that_fails_is_tried_twice_more_and_a_throttled_one_until_it_runs(
    eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "EVENT_THROTTLED_SECONDS", 0)
    failed = Failed(error_type="E")
    for ends in (
        [failed, failed, failed],
        [failed, Returned(payload=b"1")],
        [Throttled(), Throttled(), failed, Throttled(), Returned(payload=b"1")],
    ):
        scripted, lines = Scripted(*ends), list[str]()
        queue = EventQueue(scripted, Log(lines.append), retry_seconds=(0, 0))  # type: ignore[arg-type]
        assert queue.offer(create())
        await eventually(lambda: not queue._tasks)  # noqa: B023
        assert not scripted.ends
        assert bool(lines) == (ends == [failed] * 3)


async def test_the_queue_of_events_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_QUEUED_EVENTS", 2)
    queue = EventQueue(Scripted(), Log(lambda text: None))  # type: ignore[arg-type]
    assert [queue.offer(create()) for _ in range(3)] == [True, True, False]
    queue.close()
