"""The tasks of a worker go on after any exception: an outage is a warning, anything else a fault with its traceback."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import OperationalError

from integrations import outbox
from integrations.events import occupancy_events
from integrations.events.occupancy_events import OccupancyEvents
from integrations.matching import rule_book
from integrations.models import IntegrationRule
from integrations.monitoring import cleanup, health, traffic
from integrations.monitoring.cleanup import Cleanup
from integrations.monitoring.traffic import Traffic
from integrations.outbox import Claim, Recorded
from integrations.outbox.conclusions import CallReport
from integrations.review import orphaned_waits
from integrations.review.orphaned_waits import OrphanedWaits
from integrations.worker import deadlines, heartbeat
from integrations.worker.bulkhead import Bulkhead
from integrations.worker.caller import FinishedCall
from integrations.worker.clock import Clock
from integrations.worker.heartbeat import Heartbeat
from integrations.worker.recorder import Recorder, WorkerMetrics
from rooms import faults
from rooms.review import deadlines as due_messages
from tests.patience import PATIENCE

TICK_SECONDS = 0.005


class Broken:
    """Stands in for a task's way to the database: raises, and counts how often it was tried."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.tried = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.tried += 1
        raise self.error


async def beat() -> None:
    recorder = Recorder("one", stored=lambda part, has_more: None, clock=Clock())
    await Heartbeat("one", Bulkhead(), Clock(), stuck=recorder.stuck, reclaimed=lambda: None).run()


async def count_calls() -> None:
    sums = Traffic()
    while True:
        sums.add(1, seconds=0.1, failed=False, at=datetime.now(UTC))
        await sums.flush()
        await asyncio.sleep(TICK_SECONDS)


# By the place that a fault is counted under: the task, what it calls, and the pause that is shortened for the test.
TASKS: dict[str, tuple[Callable[[], Awaitable[None]], Any, str, Any, str]] = {
    "occupancy events": (OccupancyEvents().run, occupancy_events, "notify_rules", occupancy_events, "TICK_SECONDS"),
    "waits for rules that are off": (OrphanedWaits().run, rule_book, "read", orphaned_waits, "SWEEP_SECONDS"),
    "deadlines": (
        lambda: deadlines.run(WorkerMetrics(), Clock()), due_messages, "expire", deadlines, "EXPIRE_SECONDS"
    ),
    "heartbeat": (beat, heartbeat, "beat", heartbeat, "BEAT_SECONDS"),
    "cleanup": (Cleanup().run, cleanup, "_alone", cleanup, "CLEANUP_SECONDS"),
    "writing figures of rules": (count_calls, traffic, "store", traffic, "FLUSH_SECONDS"),
    "health of rules": (count_calls, health, "observe", traffic, "FLUSH_SECONDS"),
}  # fmt: skip


@pytest.fixture(params=TASKS)
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    _, _, _, module, pause = TASKS[request.param]
    monkeypatch.setattr(module, pause, TICK_SECONDS)
    if request.param != "writing figures of rules":
        monkeypatch.setattr(traffic, "store", lambda sums: None)
    if request.param != "health of rules":
        monkeypatch.setattr(health, "observe", lambda seen, now: None)
    return str(request.param)


async def fail_twice(place: str, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a task until it has failed twice."""
    run, module, name, _, _ = TASKS[place]
    broken = Broken(error)
    monkeypatch.setattr(module, name, broken)
    task = asyncio.ensure_future(run())
    async with asyncio.timeout(PATIENCE):
        while broken.tried < 2 and not task.done():
            await asyncio.sleep(TICK_SECONDS)
        await asyncio.sleep(4 * TICK_SECONDS)
    assert not task.done()
    task.cancel()
    await asyncio.wait([task])


async def test_an_unexpected_exception_is_counted_with_its_traceback_and_the_task_goes_on(
    place: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = faults.counts().get(place, 0)
    await fail_twice(place, KeyError("a bug"), monkeypatch)

    assert faults.counts()[place] >= before + 2
    assert "Traceback (most recent call last)" in caplog.text and "KeyError: 'a bug'" in caplog.text


async def test_an_outage_of_postgres_is_a_warning_and_no_fault(
    place: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = faults.counts()
    await fail_twice(place, OperationalError("the server closed the connection"), monkeypatch)

    assert faults.counts() == before
    assert "OperationalError" in caplog.text and "Traceback" not in caplog.text


async def test_a_result_that_cannot_be_stored_keeps_no_other_from_being_stored(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stored: list[float] = []

    def record(reports: Sequence[CallReport], *args: Any, **kwargs: Any) -> Recorded:
        if any(report.duration_ms == 3.0 for report in reports):
            raise KeyError("a bug")
        stored.extend(report.duration_ms for report in reports)
        return Recorded(outcomes=[], stale=[])

    monkeypatch.setattr(outbox, "record_singles", record)
    recorder = Recorder("one", stored=lambda part, has_more: None, clock=Clock())
    claim = Claim(rule=IntegrationRule(pk=1), deliveries=[])
    for number in range(5):
        report = CallReport(lane=None, conclusions=[], started_at=datetime.now(UTC), duration_ms=float(number))
        recorder.add(FinishedCall(claim=claim, report=report))
    before = faults.counts().get("storing the result of a call", 0)
    recorder.finish()
    await asyncio.wait_for(recorder.run(), PATIENCE)

    assert sorted(stored) == [0.0, 1.0, 2.0, 4.0]
    assert faults.counts()["storing the result of a call"] == before + 1
    assert "KeyError: 'a bug'" in caplog.text
