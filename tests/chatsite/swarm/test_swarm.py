"""A load tool that sees no loss proves nothing: here it meets a server that makes each mistake on purpose."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from chatsite.swarm.conductor import Conductor, SwarmFailed
from chatsite.swarm.plan import Plan
from chatsite.swarm.report import Report
from rooms.wire import Format
from tests.chatsite.swarm.faulty_server import FaultyServer
from tests.instance import Instance

MISTAKES = ("lost", "duplicated", "out_of_order", "acknowledged_but_missing", "rejected_but_published", "divergent")


def plan(url: str, **changes: Any) -> Plan:
    """50 messages for 6 members in 2 processes."""
    usual: dict[str, Any] = {
        "key": "app.key:secret",
        "room": "swarm",
        "run": "test",
        "members": 6,
        "publishers": 2,
        "rate": 250,
        "seconds": 0.2,
        "size": 100,
        "processes": 2,
        "format": Format.JSON,
        "connect_seconds": 20,
        "settle_seconds": 0.4,
    }
    return Plan(url=url, **usual | changes)


async def run(plan: Plan, pids: list[int] | None = None) -> Report:
    return await asyncio.to_thread(Conductor(plan, pids or [], lambda *_: None).run)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("none", {}),
        ("drop", {"lost": 1}),
        ("drop the last", {"lost": 1}),
        ("double", {"duplicated": 1}),
        ("swap", {"out_of_order": 1}),
        ("forget", {"acknowledged_but_missing": 1}),
        ("leak", {"rejected_but_published": 1}),
        ("publish twice", {"duplicated": 1}),
        ("diverge", {"divergent": 1, "duplicated": 1}),
    ],
)
async def test_it_sees_each_mistake_of_a_server_and_no_other(fault: str, expected: dict[str, int]) -> None:
    async with FaultyServer.running(fault) as url:
        report = await run(plan(url))
    assert {name: found for name in MISTAKES if (found := getattr(report, name))} == expected
    assert report.ok is (fault == "none")
    assert (report.attached, report.published) == (6, 50)


async def test_a_message_published_after_a_later_one_of_its_author_is_out_of_order() -> None:
    async with FaultyServer.running("overtake") as url:
        report = await run(plan(url, publishers=1))
    assert (report.lost, report.out_of_order) == (0, 1)


async def test_a_member_that_is_cut_off_comes_back_and_has_lost_nothing() -> None:
    async with FaultyServer.running("cut") as url:
        report = await run(plan(url, settle_seconds=3))
    assert (report.lost, report.duplicated, report.reconnects) == (0, 0, 1)
    assert report.ok


async def test_a_server_that_is_not_there_is_said_so() -> None:
    with pytest.raises(SwarmFailed, match="Nobody got in"):
        await run(plan("http://127.0.0.1:9", connect_seconds=0.5))


async def test_it_measures_the_processes_that_it_is_given() -> None:
    async with FaultyServer.running("none") as url:
        report = await run(plan(url), pids=[os.getpid()])
    assert report.server_processes == 1
    assert report.server_cpu_microseconds_per_delivery
    assert "µs CPU per delivery" in "\n".join(report.lines())


@pytest.mark.parametrize("wire_format", ["json", "msgpack"])
async def test_a_real_instance_passes(instance: Instance, wire_format: str) -> None:
    arguments = ("--members", "50", "--rate", "100", "--seconds", "1", "--format", wire_format)
    report = await asyncio.to_thread(instance.manage, "swarm", *arguments)
    assert (report["ok"], report["delivered"], report["problems"]) == (True, 5000, {})
    assert report["serverProcesses"] == 1
    assert report["latencyMs"]["p50"] > 0


async def test_a_key_that_is_not_accepted_ends_the_run_with_the_server_s_words(instance: Instance) -> None:
    with pytest.raises(SwarmFailed, match="refuses members"):
        await run(plan(instance.url, key="no.such:key"))
