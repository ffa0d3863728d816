"""How a journey is drawn over time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from rooms.admin.journey import Step
from rooms.admin.waterfall import duration, lay_out, lay_out_message, outside_ms
from rooms.models import Message

ZERO = datetime(2026, 11, 23, 12, tzinfo=UTC)


def at(ms: float) -> datetime:
    return ZERO + timedelta(milliseconds=ms)


def call(start: float, end: float) -> Step:
    return Step(began=at(start), at=at(end), title="call", is_call=True)


def moment(ms: float) -> Step:
    return Step(at=at(ms), title="moment")


SPANS = st.lists(
    st.tuples(st.floats(0, 1e8), st.floats(0, 1e7), st.booleans()).map(
        lambda span: Step(began=at(span[0]), at=at(span[0] + span[1]), title="x", is_call=span[2])
    ),
    max_size=12,
)


@given(SPANS)
def test_bars_lie_on_the_axis_in_the_order_of_time(steps: list[Step]) -> None:
    steps = sorted(steps, key=lambda step: step.began or ZERO)
    bars = [row.bar for row in lay_out(steps, ZERO).rows]
    assert all(bar is not None and bar.left >= 0 and bar.left + bar.width <= 100.01 for bar in bars)
    lefts = [bar.left for bar in bars if bar is not None]
    assert lefts == sorted(lefts)


@given(SPANS)
def test_labels_of_the_axis_never_touch(steps: list[Step]) -> None:
    ticks = [tick.left for tick in lay_out(steps, ZERO).ticks]
    assert all(later - earlier >= 7 for earlier, later in pairwise(ticks))
    assert len(ticks) <= 15


def test_hours_in_which_nothing_happens_are_cut_and_say_how_long_they_were() -> None:
    drawn = lay_out([moment(0), call(2, 14), call(3_600_014, 3_600_026)], ZERO)
    assert [cut.label for cut in drawn.cuts] == ["1 h"]
    first, second = (row.bar for row in drawn.rows[1:])
    assert first is not None and second is not None
    assert abs(first.width - second.width) < 0.01
    assert first.width > 20


def test_a_call_is_never_cut_however_long_it_takes() -> None:
    drawn = lay_out([moment(0), call(1, 30_000)], ZERO)
    assert not drawn.cuts
    assert drawn.rows[1].took == "30.0 s"


def test_retries_for_hours_do_not_hide_how_a_message_was_published() -> None:
    message = Message(accepted_at=ZERO, published_at=at(15))
    told = Step(began=at(15), at=at(3_600_000), title="told")
    steps = [moment(0), call(2, 13), moment(15), told, call(16, 3_000), call(3_597_000, 3_600_000)]
    before, after = lay_out_message(steps, message)
    assert [row.step.title for row in before.rows] == ["moment", "call", "moment"]
    assert [row.offset for row in after.rows] == ["+15.0 ms", "+16.0 ms", "+59 min 57 s"]
    assert len(lay_out_message(steps[:3], message)) == 1


def test_what_is_awaited_has_a_row_and_no_place() -> None:
    drawn = lay_out([moment(0), Step(at=at(5000), title="deadline", is_ahead=True)], ZERO)
    assert drawn.rows[1].bar is None


def test_a_clock_that_goes_slow_elsewhere_puts_nothing_before_acceptance() -> None:
    bar = lay_out([call(-3, 4)], ZERO).rows[0].bar
    assert bar is not None
    assert bar.left == 0


def test_time_in_calls_counts_once_what_went_on_at_the_same_time() -> None:
    aside = Step(began=at(0), at=at(90), title="shadow", is_call=True, is_aside=True)
    assert round(outside_ms([call(0, 10), call(5, 20), call(30, 40), call(60, 90), aside], ZERO, at(70)), 3) == 40


def test_durations_are_written_as_people_read_them() -> None:
    written = {0.42: "0.4 ms", 12.34: "12.3 ms", 842: "842 ms", 1240: "1.24 s", 59_960: "1 min", 125_000: "2 min 5 s"}
    hours = {11_520_000: "3 h 12 min", 187_200_000: "2 d 4 h", 86_400_000: "1 d"}
    assert {ms: duration(ms) for ms in {**written, **hours}} == {**written, **hours}
