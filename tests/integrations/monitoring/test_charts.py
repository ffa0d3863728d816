"""Charts: well-formed SVG without scripts or inline styles, whatever the values and labels."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from integrations.monitoring.charts import DOT, Line, ceiling_of, legend, short, sparkline, time_series

values = st.lists(st.none() | st.floats(min_value=0, max_value=1e9), max_size=40)
# Control characters cannot stand in XML at all; rules cannot be named by them.
labels = st.text(st.characters(exclude_categories=("Cs", "Cc", "Cn")), max_size=20)


def times(count: int) -> list[datetime]:
    return [datetime(2026, 11, 23, 12, tzinfo=UTC) + timedelta(minutes=place) for place in range(count)]


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


@given(values, labels)
def test_any_chart_is_well_formed_and_needs_no_inline_style(numbers: list[float | None], label: str) -> None:
    for stacked in (False, True):
        svg = time_series(label, times(len(numbers)), [Line(label, numbers), Line("b", numbers, "2")], stacked=stacked)
        root = parsed(svg)
        assert root.tag == "svg"
        assert all("style" not in element.attrib for element in root.iter())
        assert not list(root.iter("script"))


@given(st.floats(min_value=1e-9, max_value=1e12))
def test_the_axis_holds_the_largest_value_and_wastes_little(largest: float) -> None:
    top = ceiling_of(largest)

    assert largest * (1 - 1e-9) <= top <= largest * 2.5


def test_a_minute_without_a_value_is_a_gap_and_a_value_alone_is_a_dot() -> None:
    root = parsed(time_series("p99", times(5), [Line("p99", [1.0, 2.0, None, 3.0, None])]))
    path = next(element for element in root.iter("path"))

    assert path.attrib["d"].count("M") == 2
    assert path.attrib["d"].endswith(f"h{DOT}")


def test_stacked_areas_stand_on_one_another() -> None:
    root = parsed(time_series("v", times(2), [Line("a", [1.0, 1.0]), Line("b", [3.0, 3.0], "2")], stacked=True))
    tones = [element.attrib["class"].split()[-1] for element in root.iter("path")]
    texts = [element.text for element in root.iter("text")]

    assert tones == ["chart-tone-2", "chart-tone-1"]  # the higher one is drawn first
    assert "4" in texts


def test_each_minute_tells_its_values_to_the_mouse_and_the_last_ones_to_screen_readers() -> None:
    svg = time_series("Calls", times(2), [Line("ok", [1.0, 1500.0]), Line("<b>", [None, 2.0])], unit="ms")
    root = parsed(svg)

    assert root.attrib["aria-label"] == "Calls: ok 1.5 s, <b> 2 ms"
    assert [title.text for title in root.iter("title")] == ["12:00 · ok 1 ms", "12:01 · ok 1.5 s, <b> 2 ms"]
    assert "<b>" not in svg


def test_a_legend_and_a_sparkline_escape_what_they_are_given() -> None:
    assert "<script>" not in legend([Line("<script>", [])])
    assert parsed(sparkline([1.0, None, 2.0], label='"><x')).attrib["aria-label"] == '"><x'


def test_a_chart_without_values_says_so() -> None:
    assert "Nothing in this time" in time_series("p99", times(3), [Line("p99", [None] * 3)])
    assert "Nothing" not in time_series("calls", times(3), [Line("calls", [0.0] * 3)])


def test_numbers_are_short() -> None:
    assert [short(0), short(0.05), short(12.34), short(1234), short(2_500_000)] == [
        "0",
        "0.05",
        "12.3",
        "1.23k",
        "2.5M",
    ]
    assert [short(350, "ms"), short(99.9, "%"), short(1, "/s")] == ["350 ms", "100%", "1/s"]
