"""`manage.py swarm` against real instances, and what it says where it cannot run."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from chatsite.swarm.plan import SwarmFailed
from tests.chatsite.swarm.test_plan import plan
from tests.chatsite.swarm.test_swarm import run
from tests.instance import ROOT, Instance


def swarm(instance: Instance, arguments: str) -> dict[str, Any]:
    return dict(instance.manage("swarm", *arguments.split()))


def test_a_real_instance_passes(instance: Instance) -> None:
    report = swarm(instance, "--members 50 --rate 100 --seconds 1")
    assert (report["ok"], report["delivered"], report["problems"]) == (True, 5000, {})
    assert report["serverProcesses"] == 1
    assert all(report[hop]["p50"] > 0 for hop in ("latencyMs", "ackLatencyMs", "publishMs", "fanOutMs", "everyoneMs"))


def test_publishing_alone_is_measured(instance: Instance) -> None:
    report = swarm(instance, "--members 0 --rooms 20 --publishers 20 --rate 400 --batch 4 --seconds 1 --processes 2")
    assert (report["ok"], report["acknowledged"], report["attached"]) == (True, 400, 0)
    assert report["serverCpuMicrosecondsPerMessage"] > 0


async def test_a_key_that_is_not_accepted_ends_the_run_with_the_server_s_words(instance: Instance) -> None:
    with pytest.raises(SwarmFailed, match="refuses members"):
        await run(plan(url=instance.url, key="no.such:key"))


async def test_people_see_what_happens_and_a_report(instance: Instance) -> None:
    arguments = "--members 5 --seconds 0.5 --publishers 1 --format msgpack"
    command = [sys.executable, "manage.py", "swarm", *arguments.split()]
    result = await asyncio.to_thread(
        subprocess.run, command, cwd=ROOT, env=instance.environment(), capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "connecting" in result.stderr and "receiving" in result.stderr
    assert result.stdout.endswith("ok\n") and "fan-out" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--kill-gateway", "Run the swarm beside the instance"),
        ("--kill-gateway 20 --seconds 10", "must be less than --seconds"),
        ("--url ftp://x", "--url is an address"),
        ("--members 5 --slow-readers 6", "there cannot be more"),
        ("--members 0 --publishers 0", "nothing to do"),
        ("--protocol nchan --churn 1", "With --protocol nchan"),
        ("--size 10", "--size must be"),
        ("--batch 201", "--batch must be"),
        ("--members 9999999", "on several machines"),
        ("--members 1", "Name a key"),
        ("--rooms 0", "must be"),
        ("--rate 0", "must be"),
    ],
)
def test_what_cannot_be_done_is_said_with_what_to_do(arguments: str, words: str, settings: Any, tmp_path: Path) -> None:
    settings.DATA = tmp_path
    key = [] if words == "Name a key" else ["--key", "a.b:c"]
    with pytest.raises(CommandError, match=words):
        call_command("swarm", *arguments.split(), *key)
