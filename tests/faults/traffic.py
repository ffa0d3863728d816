"""Traffic that is checked as a whole while something is done to the server: the swarm, after the manner of Jepsen."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from chatsite.swarm.conductor import Conductor, Status
from chatsite.swarm.plan import Plan
from chatsite.swarm.results.report import Report
from rooms.protocol.wire import Format
from tests.instance import Instance
from tests.patience import PATIENCE

WRONG = (
    "lost",
    "duplicated",
    "out_of_order",
    "acknowledged_but_missing",
    "rejected_but_published",
    "divergent",
    "discontinuities",
)


def run(
    instance: Instance, key: str, *, meanwhile: Callable[[], object] = lambda: None, after: int = 0, **changes: Any
) -> Report:
    """Put members and publishers into a room; call `meanwhile` once `after` messages are published."""
    usual: dict[str, Any] = {
        "room": f"traffic:{secrets.token_hex(4)}",
        "run": secrets.token_hex(4),
        "members": 20,
        "publishers": 6,
        "rate": 60,
        "seconds": 4,
        "size": 100,
        "processes": 1,
        "format": Format.JSON,
        "connect_seconds": PATIENCE,
        "settle_seconds": PATIENCE,
    }
    with ThreadPoolExecutor(1) as pool:
        done: list[Future[object]] = []

        def show(status: Status) -> None:
            if status.phase == "publishing" and not done and status.publishers.published >= after:
                done.append(pool.submit(meanwhile))

        plan = Plan(url=instance.url, key=key, **usual | changes)
        report = Conductor(plan, list(instance.gateways().values()), show).run()
        assert len(done) == 1
        done[0].result()
    return report


def check(report: Report) -> None:
    """Fail unless each message was answered, and each published one reached each member once, in order."""
    assert {name: found for name in WRONG if (found := getattr(report, name))} == {}, report
    assert report.acknowledged + report.refused == report.published, report
    assert report.attached == report.members
    assert report.delivered == report.expected
