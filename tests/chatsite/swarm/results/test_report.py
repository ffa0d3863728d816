from __future__ import annotations

from collections import Counter
from typing import Any

from chatsite.swarm.results.latency import Latency
from chatsite.swarm.results.report import Report, compile_report
from chatsite.swarm.results.tally import Kill, Place, Published, RoomTally, Seen, Tally, Token, Usage
from tests.chatsite.swarm.test_plan import plan

STARTED = 100.0


def histogram(*milliseconds: float) -> Latency:
    latency = Latency()
    for each in milliseconds:
        latency.add(each / 1000)
    return latency


def report(series: dict[int, list[float]], **usage: Any) -> Report:
    """A run in which these milliseconds were measured in these seconds."""
    everything = histogram(*(value for values in series.values() for value in values))
    tally = Tally(
        attached=6,
        delivered=len(everything),
        rooms={0: RoomTally(members=6, latency=everything)},
        by_second={second: histogram(*values) for second, values in series.items()},
        seen={Place(0, 1, Token(0, 0)): Seen(1_000_000, 5_000_000, 1_000_250, 6)},
        fan_out=Counter({1_000_250 - 50_000_000: 6}),
        cut_at=[102.5, 102.5, 101.0],
        back_at=[101.5, 102.75, 103.5],
    )
    usual: dict[str, Any] = {
        "publish_seconds": 1,
        "swarm_memory_bytes": 1,
        "swarm_processes": 1,
    }
    return compile_report(plan(churn=2), [Published()], [tally], Usage(started=STARTED, **usual | usage))


def test_hops_part_at_the_server_s_timestamp_whatever_its_clock_shows() -> None:
    """Sent at 100.0 s, stamped 5,000,000 ms by a clock that is 4,899.99 s ahead, received at 100.025 s."""
    measured = report({0: [25]}, clock_offset=4899.99)
    assert (measured.publish_ms.max, measured.fan_out_ms.max) == (10.6, 14.6)
    quickest = report({0: [25]})
    assert (quickest.publish_ms.max, quickest.fan_out_ms.max) == (0.1, 25.1)
    assert quickest.everyone_ms.max == 25.1


def test_the_end_of_a_gateway_counts_who_was_cut_off_after_it_and_until_when_they_were_away() -> None:
    killed = report({}, kill=Kill(name="gateway-1", at=102.0)).killed
    assert killed is not None
    assert (killed.at, killed.cut, killed.back, killed.seconds_until_all_back) == (2.0, 2, 2, 1.5)


def test_who_does_not_come_back_is_no_success() -> None:
    away = report({}, kill=Kill(name="gateway-1", at=102.6))
    assert away.killed is not None
    assert (away.killed.cut, away.killed.back) == (0, 2)
    assert away.killed.seconds_until_all_back is None
    assert not away.ok
