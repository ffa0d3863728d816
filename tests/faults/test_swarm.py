"""The load tool does to a server what can go wrong, all at once, and the server keeps its promises."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from chatsite.up.embedded import free_port
from tests.instance import Instance
from tests.patience import PATIENCE


def test_nothing_is_lost_when_members_come_and_go_and_a_gateway_and_a_worker_are_killed(
    victim: Instance, tmp_path: Path
) -> None:
    drawing = tmp_path / "latency.svg"
    arguments = (
        "--members 200 --rooms 5 --rate 50 --seconds 3 --churn 10 --kill-gateway 1 --slow-readers 10 "
        f"--slow-rate 8192 --plot {drawing} --review single --review-port {free_port()} --kill-worker 2 "
        f"--settle-seconds {PATIENCE / 3}"  # a worker starts again in a second, or in many on a busy machine
    )
    report = victim.manage("swarm", *arguments.split())
    wrong = ("lost", "duplicated", "outOfOrder", "acknowledgedButMissing", "divergent", "discontinuities")
    assert [report[name] for name in wrong] == [0] * len(wrong)
    assert report["ok"], report
    assert report["churned"] >= 50
    assert report["killed"]["cut"] >= 50
    assert report["killed"]["secondsUntilAllBack"] is not None
    assert report["slowReaders"]["caughtUp"] == 10
    assert "chat_catch_up_reads" in report["counters"]
    assert report["killedWorker"] == "worker-1"
    assert report["reviewed"]["messages"] == report["acknowledged"] == 150
    assert (report["reviewed"]["unasked"], report["reviewed"]["changedIds"]) == (0, 0)
    assert ElementTree.parse(drawing).getroot().tag.endswith("svg")
