"""The plot, the live display and the figures of /metrics: what people read beside the report."""

from __future__ import annotations

import io
from collections import Counter
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatsite.swarm.conductor import Status
from chatsite.swarm.display import Display
from chatsite.swarm.findings import Place, Token
from chatsite.swarm.killing import Kill
from chatsite.swarm.latency import Latency
from chatsite.swarm.messages import Seen
from chatsite.swarm.orders import Progress
from chatsite.swarm.plot import draw
from chatsite.swarm.publishers import Published
from chatsite.swarm.report import Report
from chatsite.swarm.scrape import grown, parse
from chatsite.swarm.summary import Usage, compile_report
from chatsite.swarm.tally import RoomTally, Tally
from tests.chatsite.swarm.test_plan import plan

SVG = "{http://www.w3.org/2000/svg}"
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


def test_a_plot_has_axes_with_units_a_legend_and_marks_of_what_was_done() -> None:
    drawn = draw(report({0: [1, 2, 3], 1: [5, 900]}, kill=Kill(name="gateway-<3>", at=102.0)))
    texts = [element.text for element in ElementTree.fromstring(drawn).iter(f"{SVG}text")]
    for expected in ("1 ms", "1 s", "0", "p50", "p99", "gateway-<3> killed", "all back", "2 % leave each second"):
        assert expected in texts
    assert "prefers-color-scheme: dark" in drawn


@given(st.dictionaries(st.integers(0, 5000), st.lists(st.floats(0, 10**5), min_size=1, max_size=5), max_size=20))
def test_every_run_can_be_drawn_and_nothing_leaves_the_paper(series: dict[int, list[float]]) -> None:
    root = ElementTree.fromstring(draw(report(series)))
    for line in root.iter(f"{SVG}polyline"):
        for point in line.attrib["points"].split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= 960 and 0 <= y <= 540


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


@pytest.mark.parametrize("width", [None, 60])
def test_the_display_says_where_a_run_stands(width: int | None) -> None:
    output = io.StringIO()
    display = Display(plan(), output, width=width)
    crowd = Progress(ready=6, delivered=120, problems=Counter({"it is full": 3}))
    display.show(
        Status(phase="publishing", at=0.5, crowds=[crowd], offices=[Progress(published=20)], recent=histogram(7))
    )
    shown = output.getvalue()
    for expected in ("publishing", "6 of 6 members", "20 published", "120 delivered", "p99 7.1 ms", "3 x it is full"):
        assert expected in shown
    display.clear()
    assert ("\x1b[" in output.getvalue()) is (width is not None)
    assert all(len(line) < 60 for line in shown.splitlines()) or width is None


def test_counters_of_gateways_are_added_up_and_a_new_gateway_began_with_nothing() -> None:
    before = parse('# HELP x\nchat_healed_total{gateway="a"} 5.0\nchat_catch_up_reads_total{gateway="a"} 1.0\n')
    after = before | parse('chat_healed_total{gateway="b"} 2.0\nchat_members{gateway="b"} 9.0\n')
    assert grown(before, after) == {"chat_catch_up_reads": 0, "chat_healed": 2}
    assert grown(before, {}) is None
