"""The plot that people look at beside the report."""

from __future__ import annotations

from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from chatsite.swarm.results.plot import draw
from chatsite.swarm.results.tally import Kill
from tests.chatsite.swarm.results.test_report import report

SVG = "{http://www.w3.org/2000/svg}"


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
