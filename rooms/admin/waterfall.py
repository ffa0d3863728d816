"""Lays out a journey over time: each step is a row, its duration a bar on a common axis. Pure.

The axis is linear where something happens. A stretch without events (hours between two calls) is cut short and labelled
with its length: otherwise the milliseconds that matter would be thinner than a pixel. A call is never cut.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from rooms.admin.journey import Step, Tone
from rooms.models import Message, Status

CUT_FROM_MS = 1_000.0  # shorter stretches are never cut
CUT_SHARE = 0.45  # the width of a cut stretch, as a share of all that is drawn to scale
MIN_AXIS_MS = 1.0
MAX_TICKS = 6
SPLIT_FROM = 12  # times as long as publishing took
LABEL_ROOM = 7.0  # per cent of the axis that one label needs

Span = tuple[float, float]  # milliseconds since acceptance


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A place on the axis, in per cent of its length. Without a width it is a moment."""

    left: float
    width: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Line:
    """The row of one step: its offset from acceptance, its duration, and its bar."""

    step: Step
    offset: str = ""
    took: str = ""
    bar: Bar | None = None


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A line across all rows. The label of a cut is the length of the stretch."""

    left: float
    label: str
    width: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Waterfall:
    """All rows, and the axis above them."""

    title: str
    rows: Sequence[Line]
    ticks: Sequence[Tick]
    cuts: Sequence[Tick]


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A number beside the drawing."""

    label: str
    value: str
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, kw_only=True)
class _Stretch:
    """A part of the axis: milliseconds since acceptance, and per cent."""

    start: float
    end: float
    left: float
    width: float
    is_cut: bool


def lay_out_message(steps: Sequence[Step], message: Message) -> list[Waterfall]:
    """Return the layout of a message's journey, in two parts if the time after publishing dwarfs the time before."""
    zero, published = message.accepted_at, message.published_at
    ends = [step.at for step in steps if step.at is not None and not step.is_ahead]
    if published is None or not ends or max(ends) - zero <= SPLIT_FROM * (published - zero):
        return [lay_out(steps, zero)]
    until = [step for step in steps if not step.is_ahead and step.start is not None and _is_until(step, published)]
    after = [step for step in steps if step not in until]
    return [lay_out(until, zero, title="Until it was published"), lay_out(after, zero, published, title="Afterwards")]


def lay_out(steps: Sequence[Step], zero: datetime, start: datetime | None = None, title: str = "") -> Waterfall:
    """Return the layout of ordered steps. Times count from `zero`; the axis begins at `start`, or else at `zero`."""
    spans = [_span(step, zero) for step in steps]
    first = (start - zero).total_seconds() * 1000 if start else 0.0
    calls = [span for step, span in zip(steps, spans, strict=True) if span and step.is_call]
    stretches = _stretches({first, *(moment for span in spans if span for moment in span)}, calls)
    rows = []
    for step, span in zip(steps, spans, strict=True):
        if span is None:
            rows.append(Line(step=step))
            continue
        left, right = _place(stretches, span[0]), _place(stretches, span[1])
        took = duration(span[1] - span[0]) if step.began is not None else ""
        rows.append(
            Line(step=step, offset=f"+{duration(span[0])}", took=took, bar=Bar(left=left, width=_rounded(right - left)))
        )
    cuts = [
        Tick(left=stretch.left, width=stretch.width, label=duration(stretch.end - stretch.start))
        for stretch in stretches
        if stretch.is_cut
    ]
    return Waterfall(title=title, rows=rows, ticks=_ticks(stretches), cuts=cuts)


def facts_of(message: Message, steps: Sequence[Step]) -> list[Fact]:
    """Return the main figures: the time until publishing, and the part of it spent in calls."""
    zero = message.accepted_at
    until = message.published_at
    if until is None:
        return [Fact(label="Status", value=Status(message.status).label, tone=Tone.WAITING)]
    total = (until - zero).total_seconds() * 1000
    outside = outside_ms(steps, zero, until)
    facts = [Fact(label="to be published", value=duration(total), tone=Tone.GOOD)]
    if outside:
        facts.append(Fact(label="of it in calls", value=duration(outside)))
        facts.append(Fact(label="of it in this server", value=duration(max(0.0, total - outside))))
    ends = [step.at for step in steps if step.is_call and step.began and step.at and step.began >= until]
    if ends:
        facts.append(Fact(label="until the last call ended", value=duration((max(ends) - zero).total_seconds() * 1000)))
    return facts


def outside_ms(steps: Iterable[Step], zero: datetime, until: datetime) -> float:
    """Return the milliseconds between two moments that were spent in calls; calls that overlap count once."""
    total, reached = 0.0, zero
    waits = [step for step in steps if step.is_call and not step.is_aside]
    calls = [(step.began, step.at) for step in waits if step.began is not None and step.at is not None]
    for began, ended in sorted(calls):
        start, end = max(began, reached), min(ended, until)
        if end > start:
            total += (end - start).total_seconds() * 1000
            reached = end
    return total


def duration(ms: float) -> str:
    """Return a duration in readable units: `0.4 ms`, `12.3 ms`, `1.24 s`, `2 min 5 s`, `3 h 12 min`, `2 d 4 h`."""
    if ms < 999.5:
        return f"{ms:.1f} ms" if ms < 99.95 else f"{ms:.0f} ms"
    seconds = ms / 1000
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"
    whole = round(seconds)
    for size, unit, small, smaller in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // small
            return f"{whole // size} {unit} {rest} {smaller}" if rest else f"{whole // size} {unit}"
    return f"{seconds:.1f} s"


def _is_until(step: Step, published: datetime) -> bool:
    """Return whether a step came before publishing; notifications of rules, which begin with it, did not."""
    start = step.start
    return start is not None and (start < published or (start == published and step.began is None))


def _span(step: Step, zero: datetime) -> Span | None:
    """Return begin and end in milliseconds, at least 0: another host's clock may be behind."""
    if step.is_ahead or step.start is None or step.at is None:
        return None
    start = max(0.0, (step.start - zero).total_seconds() * 1000)
    return start, max(start, (step.at - zero).total_seconds() * 1000)


def _stretches(moments: set[float], calls: Sequence[Span]) -> list[_Stretch]:
    """Return the stretches of the axis between the moments at which steps began or ended."""
    first = min(moments)
    gaps = list(pairwise(sorted(moments))) or [(first, first + MIN_AXIS_MS)]
    drawn = 0.0  # to scale
    cut: set[Span] = set()
    for gap in sorted(gaps, key=lambda gap: gap[1] - gap[0]):
        length = gap[1] - gap[0]
        is_idle = not any(start <= gap[0] and gap[1] <= end for start, end in calls)
        if is_idle and length > CUT_FROM_MS and length > drawn > 0:
            cut.add(gap)
        else:
            drawn += length
    total = drawn * (1 + CUT_SHARE * min(1.0, len(cut)))
    each = drawn * CUT_SHARE / len(cut) if cut else 0.0
    stretches, left = [], 0.0
    for start, end in gaps:
        width = (each if (start, end) in cut else end - start) / total * 100
        stretches.append(_Stretch(start=start, end=end, left=left, width=width, is_cut=(start, end) in cut))
        left += width
    return stretches


def _place(stretches: Sequence[_Stretch], moment: float) -> float:
    """Return the place of a moment on the axis, in per cent."""
    index = max(0, bisect_right([stretch.start for stretch in stretches], moment) - 1)
    stretch = stretches[index]
    share = min(1.0, (moment - stretch.start) / (stretch.end - stretch.start))
    return _rounded(stretch.left + share * stretch.width)


def _ticks(stretches: Sequence[_Stretch]) -> list[Tick]:
    """Return ticks at round times along the stretches drawn to scale, with space for their labels."""
    drawn = sum(stretch.end - stretch.start for stretch in stretches if not stretch.is_cut)
    step = _round_step(drawn / MAX_TICKS)
    ticks: list[Tick] = [Tick(left=0.0, label=_round_time(round(stretches[0].start, 1)) if stretches[0].start else "0")]
    room = LABEL_ROOM * 2 if stretches[0].start else LABEL_ROOM  # the first label begins at its line
    for stretch in stretches:
        if stretch.is_cut:
            continue
        count = int(stretch.start // step) + 1
        while count * step <= stretch.end:
            left = _place(stretches, count * step)
            if left - ticks[-1].left >= room and left <= 100 - LABEL_ROOM / 2:
                ticks.append(Tick(left=left, label=_round_time(count * step)))
                room = LABEL_ROOM
            count += 1
    return ticks


def _round_step(least: float) -> float:
    power = 0.01
    while True:
        for factor in (1, 2, 5):
            if factor * power >= least:
                return factor * power
        power *= 10


def _round_time(ms: float) -> str:
    if ms < 1000:
        return f"{ms:g} ms"
    return f"{ms / 1000:g} s" if ms < 60_000 else duration(ms)


def _rounded(number: float) -> float:
    return round(number, 3)
