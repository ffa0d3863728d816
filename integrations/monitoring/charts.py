"""Draws charts as inline SVG, without scripts and inline styles; CSS classes (static/charts.css) colour them. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import escape
from typing import Final

WIDTH: Final = 640
HEIGHT: Final = 200
LEFT, RIGHT, TOP, BOTTOM = 66, 24, 12, 26
Y_TICKS: Final = 4
X_STEPS_MINUTES: Final = (1, 5, 10, 15, 30, 60, 120, 180, 240, 360, 720, 1440)
X_TICKS: Final = 8
DOT: Final = 4  # the length of the stroke for a value without neighbours


@dataclass(frozen=True)
class Line:
    """One series of a chart: a value for each time; None leaves a gap."""

    label: str
    values: Sequence[float | None]
    tone: str = "1"  # CSS class chart-tone-<tone>: 1 to 6, good, bad


@dataclass(frozen=True)
class _Frame:
    """The coordinates of a chart: turns values and times into positions."""

    times: Sequence[datetime]
    top: float  # the largest value of the axis
    step: timedelta  # between two times

    def x(self, place: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * place / max(len(self.times) - 1, 1)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(value / self.top, 1.0)


def time_series(
    title: str, times: Sequence[datetime], lines: Sequence[Line], *, unit: str = "", stacked: bool = False
) -> str:
    """Return an SVG element: lines over time, or stacked areas. The times are evenly spaced.

    All texts are escaped. Each time has a tooltip with all values; screen readers get the last values.
    """
    shown = [Line(line.label, layer, line.tone) for line, layer in zip(lines, _layers(lines), strict=True)]
    if not stacked:
        shown = list(lines)
    frame = _frame(times, shown)
    draw = _areas if stacked else _curves
    return "".join(
        (
            f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'aria-label="{escape(_spoken(title, lines, unit))}">',
            _value_axis(frame, unit),
            _time_axis(frame),
            draw(frame, shown),
            _emptiness(lines),
            _tooltips(frame, lines, unit),
            "</svg>",
        )
    )


def sparkline(values: Sequence[float | None], *, label: str, tone: str = "1") -> str:
    """Return a small SVG element without axes, for a cell of a table."""
    width, height = 120, 24
    top = max((value for value in values if value is not None), default=0.0) or 1.0

    def x(place: float) -> float:
        return 1 + (width - 2) * place / max(len(values) - 1, 1)

    path = _path(values, x, lambda value: height - 2 - (height - 4) * value / top)
    return (
        f'<svg class="chart-spark" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">'
        f'<path class="chart-line chart-tone-{escape(tone)}" d="{path}"/></svg>'
    )


def legend(lines: Sequence[Line]) -> str:
    """Return an HTML list with the colour and the label of each line."""
    keys = (
        f'<li><span class="chart-key chart-tone-{escape(line.tone)}"></span>{escape(line.label)}</li>' for line in lines
    )
    return f'<ul class="chart-legend">{"".join(keys)}</ul>'


def short(value: float, unit: str = "") -> str:
    """Return a number as people read it: `1.2k`, `350 ms`, `2.5 s`, `0.05`."""
    if unit == "ms" and value >= 1000:
        return f"{_digits(value / 1000)} s"
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{_digits(value / factor)}{letter}{_spaced(unit)}"
    return f"{_digits(value)}{_spaced(unit)}"


def ceiling_of(largest: float) -> float:
    """Return the upper end of an axis for values up to `largest`: Y_TICKS round steps."""
    if largest < 1e-12 or not math.isfinite(largest):
        return 1.0
    rough = largest / Y_TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))
    return step * Y_TICKS


def _digits(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 99.5 else f"{value:.3g}"


def _spaced(unit: str) -> str:
    return unit if unit[:1] in ("", "%", "/") else f" {unit}"


def _layers(lines: Sequence[Line]) -> list[list[float | None]]:
    """Return the upper edges of stacked areas, in the given order."""
    edge = [0.0] * max((len(line.values) for line in lines), default=0)
    layers: list[list[float | None]] = []
    for line in lines:
        edge = [below + (value or 0.0) for below, value in zip(edge, line.values, strict=True)]
        layers.append(list(edge))
    return layers


def _frame(times: Sequence[datetime], lines: Sequence[Line]) -> _Frame:
    largest = max((value for line in lines for value in line.values if value is not None), default=0.0)
    step = times[1] - times[0] if len(times) > 1 else timedelta(minutes=1)
    return _Frame(times=times, top=ceiling_of(largest), step=step)


def _value_axis(frame: _Frame, unit: str) -> str:
    parts = []
    for number in range(Y_TICKS + 1):
        value = frame.top * number / Y_TICKS
        y = frame.y(value)
        parts.append(f'<line class="chart-grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="chart-text" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">'
            f"{escape(short(value, unit))}</text>"
        )
    return "".join(parts)


def _time_axis(frame: _Frame) -> str:
    if len(frame.times) < 2:
        return ""
    minutes = (frame.times[-1] - frame.times[0]) / timedelta(minutes=1)
    step = next((step for step in X_STEPS_MINUTES if minutes / step <= X_TICKS), X_STEPS_MINUTES[-1])
    parts = []
    for place, time in enumerate(frame.times):
        if (time.hour * 60 + time.minute) % step == 0 and time.second == 0:
            parts.append(
                f'<text class="chart-text" x="{frame.x(place):.1f}" y="{HEIGHT - 7}" text-anchor="middle">'
                f"{time:%H:%M}</text>"
            )
    return "".join(parts)


def _emptiness(lines: Sequence[Line]) -> str:
    if any(value is not None for line in lines for value in line.values):
        return ""
    return f'<text class="chart-text" x="{WIDTH / 2}" y="{HEIGHT / 2}" text-anchor="middle">Nothing in this time</text>'


def _curves(frame: _Frame, lines: Sequence[Line]) -> str:
    return "".join(
        f'<path class="chart-line chart-tone-{escape(line.tone)}" d="{_path(line.values, frame.x, frame.y)}"/>'
        for line in lines
    )


def _areas(frame: _Frame, lines: Sequence[Line]) -> str:
    # The topmost area first: the lower ones are painted over it.
    parts = []
    for line in reversed(lines):
        edge = " ".join(f"L{frame.x(place):.1f} {frame.y(value or 0.0):.1f}" for place, value in enumerate(line.values))
        start, end = frame.x(0), frame.x(len(line.values) - 1)
        parts.append(
            f'<path class="chart-area chart-tone-{escape(line.tone)}" '
            f'd="M{start:.1f} {frame.y(0):.1f} {edge} L{end:.1f} {frame.y(0):.1f}Z"/>'
        )
    return "".join(parts)


def _path(values: Sequence[float | None], x: Callable[[float], float], y: Callable[[float], float]) -> str:
    """Return an SVG path with gaps for missing values; a value between two gaps becomes a dot."""
    parts = []
    is_drawing = False
    for place, value in enumerate(values):
        if value is not None:
            is_alone = not is_drawing and (place + 1 == len(values) or values[place + 1] is None)
            # A short stroke: a line without length would hardly be visible.
            if is_alone:
                parts.append(f"M{x(place) - DOT / 2:.1f} {y(value):.1f}h{DOT}")
            else:
                parts.append(f"{'L' if is_drawing else 'M'}{x(place):.1f} {y(value):.1f}")
        is_drawing = value is not None
    return "".join(parts)


def _tooltips(frame: _Frame, lines: Sequence[Line], unit: str) -> str:
    parts = []
    width = (WIDTH - LEFT - RIGHT) / max(len(frame.times) - 1, 1)
    for place, time in enumerate(frame.times):
        told = _values_at(lines, place, unit)
        if told:
            parts.append(
                f'<rect class="chart-hit" x="{frame.x(place) - width / 2:.1f}" y="{TOP}" width="{width:.1f}" '
                f'height="{HEIGHT - TOP - BOTTOM}"><title>{time:%H:%M} · {escape(told)}</title></rect>'
            )
    return "".join(parts)


def _values_at(lines: Sequence[Line], place: int, unit: str) -> str:
    values = [(line.label, line.values[place]) for line in lines]
    return ", ".join(f"{label} {short(value, unit)}" for label, value in values if value is not None)


def _spoken(title: str, lines: Sequence[Line], unit: str) -> str:
    last = max((len(line.values) for line in lines), default=0) - 1
    told = _values_at(lines, last, unit) if last >= 0 else ""
    return f"{title}: {told}" if told else title
