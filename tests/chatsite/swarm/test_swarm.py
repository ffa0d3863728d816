"""A load tool that sees no loss proves nothing: here it meets a server that makes each mistake on purpose."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from typing import Any

import pytest

from chatsite.swarm.conductor import Conductor
from chatsite.swarm.plan import Plan, Protocol, SwarmFailed
from chatsite.swarm.results.report import Report
from chatsite.swarm.results.text import lines_of
from tests.chatsite.swarm.fake_nchan import FakeNchan
from tests.chatsite.swarm.faulty_server import BUSY_TIMES, FaultyServer
from tests.chatsite.swarm.test_plan import plan
from tests.patience import PATIENCE

MISTAKES = (
    "lost",
    "duplicated",
    "out_of_order",
    "misdirected",
    "acknowledged_but_missing",
    "rejected_but_published",
    "divergent",
    "discontinuities",
)
FAULTS: dict[str, dict[str, int]] = {
    "none": {},
    "drop": {"lost": 1},
    "drop the last": {"lost": 1},
    "double": {"duplicated": 1},
    "swap": {"out_of_order": 1},
    "forget": {"acknowledged_but_missing": 1},
    "leak": {"rejected_but_published": 1},
    "publish twice": {"duplicated": 1},
    "diverge": {"divergent": 1, "duplicated": 1},
}


async def run(plan: Plan, pids: list[int] | None = None) -> Report:
    return await asyncio.to_thread(Conductor(plan, pids or [], lambda _: None).run)


async def meet(faults: Iterable[str], *, place: str = "swarm", **changes: Any) -> dict[str, Report]:
    """Return the report on a server with each of these faults; all run at once."""

    async def meet_one(fault: str) -> Report:
        async with FaultyServer.running(fault, place=place) as url:
            return await run(plan(url=url, settle_seconds=2, **changes))

    return dict(zip(faults, await asyncio.gather(*map(meet_one, faults)), strict=True))


def found(report: Report) -> dict[str, int]:
    return {name: count for name in MISTAKES if (count := getattr(report, name))}


async def test_it_sees_each_mistake_of_a_server_and_no_other() -> None:
    """50 messages for 6 members in 2 processes."""
    reports = await meet(FAULTS)
    assert {fault: found(report) for fault, report in reports.items()} == FAULTS
    assert {fault for fault, report in reports.items() if report.ok} == {"none"}, lines_of(reports["none"])
    assert {(report.attached, report.published) for report in reports.values()} == {(6, 50)}


async def test_it_sees_a_mistake_in_one_of_many_rooms_and_says_in_which() -> None:
    """50 messages in each of 3 rooms with 2 members."""
    faults = FAULTS | {"misdirect": {"misdirected": 1}}
    reports = await meet(faults, place="swarm:2", rooms=3, rate=750, processes=1)
    assert {fault: found(report) for fault, report in reports.items()} == faults
    worst = {report.worst_room.name for fault, report in reports.items() if fault != "none" and report.worst_room}
    assert worst == {"swarm:2"}


async def test_a_message_published_after_a_later_one_of_its_author_is_out_of_order() -> None:
    async with FaultyServer.running("overtake") as url:
        report = await run(plan(url=url, publishers=1))
    assert (report.lost, report.out_of_order) == (0, 1)


async def test_a_member_that_is_cut_off_comes_back_and_has_lost_nothing() -> None:
    async with FaultyServer.running("cut") as url:
        report = await run(plan(url=url, settle_seconds=PATIENCE))
    assert (report.lost, report.duplicated, report.reconnects) == (0, 0, 1)
    assert report.ok
    assert report.catch_up_ms.max is not None


async def test_what_a_member_misses_because_the_server_does_not_know_its_place_any_more_is_lost() -> None:
    async with FaultyServer.running("forget members") as url:
        report = await run(plan(url=url, settle_seconds=5))
    assert (report.lost, report.discontinuities, report.ok) == (1, 1, False)


async def test_members_leave_and_come_back_where_they_were() -> None:
    async with FaultyServer.running("none") as url:
        report = await run(plan(url=url, rooms=2, churn=200, seconds=0.5, settle_seconds=PATIENCE))
    assert report.ok, lines_of(report)
    assert report.churned == 6
    assert report.resume_ms.max is not None


async def test_a_server_that_is_full_is_asked_again() -> None:
    async with FaultyServer.running("busy") as url:
        report = await run(plan(url=url))
    assert report.ok, lines_of(report)
    (problem,) = report.problems
    assert "503 Busy" in problem and report.problems[problem] == BUSY_TIMES


async def test_several_processes_publish_messages_in_batches_to_many_rooms_for_nobody() -> None:
    async with FaultyServer.running("none") as url:
        report = await run(plan(url=url, members=0, publishers=4, rooms=8, rate=500, batch=5))
    assert report.ok, lines_of(report)
    assert (report.published, report.acknowledged, report.delivered, report.swarm_processes) == (100, 100, 0, 2)
    assert report.ack_latency_ms.p50 is not None


async def test_batches_arrive_whole_and_in_order() -> None:
    async with FaultyServer.running("none") as url:
        report = await run(plan(url=url, rooms=2, batch=5))
    assert report.ok, lines_of(report)
    assert (report.published, report.delivered) == (50, 150)


async def test_slow_readers_are_told_of_apart() -> None:
    async with FaultyServer.running("none") as url:
        report = await run(plan(url=url, members=6, slow_readers=2, slow_rate=400, settle_seconds=PATIENCE))
    assert report.ok, lines_of(report)
    assert report.slow_readers is not None
    assert (report.delivered, report.slow_readers.members, report.slow_readers.delivered) == (200, 2, 100)
    assert (report.slow_readers.caught_up, report.slow_readers.lost) == (2, 0)


async def test_a_server_that_is_not_there_is_said_so_with_what_was_met() -> None:
    with pytest.raises(SwarmFailed, match=r"(?s)Nobody got in.*Connection refused"):
        await run(plan(url="http://127.0.0.1:9", connect_seconds=0.7))


async def test_it_measures_the_processes_that_it_is_given() -> None:
    async with FaultyServer.running("none") as url:
        report = await run(plan(url=url), pids=[os.getpid()])
    assert report.server_processes == 1
    assert report.server_cpu_microseconds_per_delivery
    assert "µs CPU per delivery" in "\n".join(lines_of(report))


@pytest.mark.parametrize(("fault", "expected"), [("none", {}), ("swap", {"out_of_order": 1})])
async def test_a_peer_is_measured_and_checked_by_the_same_tool(fault: str, expected: dict[str, int]) -> None:
    async with FakeNchan.running(fault) as url:
        report = await run(plan(url=url, protocol=Protocol.NCHAN, rooms=2, publishers=2))
    assert found(report) == expected
    assert (report.attached, report.acknowledged, report.ok) == (6, 50, fault == "none")
    assert report.latency_ms.p50 is not None
