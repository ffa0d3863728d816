"""Latency over time as a drawing that needs nothing else: one SVG, light or dark as the viewer is. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from chatsite.swarm.results.report import Report
from chatsite.swarm.results.text import rate_of

WIDTH, HEIGHT = 960, 540
LEFT, RIGHT, TOP, BOTTOM = 80, WIDTH - 24, 92, HEIGHT - 64  # edges of the area between the axes
TICK_DISTANCE = 90  # at least, between two marks of the time
EMPTY_MS = (1.0, 1000.0)  # the scale of a run without a latency
WORDS = {"everyone": "until everyone had it (median)", "ack": "acknowledged (p99)"}

Lines = dict[str, list[tuple[float, float]]]  # seconds and milliseconds

STYLE = """
svg { background: #fff; color: #1c1e21; font: 13px system-ui, sans-serif; }
text { fill: currentColor; } .quiet { fill: #5c636b; } .title { font-size: 17px; font-weight: 600; }
.grid { stroke: #dfe3e8; } .axis { stroke: #5c636b; } .event { stroke: #b3261e; stroke-dasharray: 5 4; }
.event-text { fill: #b3261e; } .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.p50 { stroke: #1f6feb; } .p95 { stroke: #8250df; } .p99 { stroke: #bc4c00; } .max { stroke: #57606a; }
.everyone { stroke: #1a7f37; stroke-dasharray: 2 3; }
@media (prefers-color-scheme: dark) {
svg { background: #15181c; color: #e6e9ec; } .quiet { fill: #a2abb5; } .grid { stroke: #2c323a; }
.axis { stroke: #a2abb5; } .event { stroke: #ff8a80; } .event-text { fill: #ff8a80; }
.p50 { stroke: #6cb6ff; } .p95 { stroke: #c297ff; } .p99 { stroke: #ffa657; } .max { stroke: #adbac7; }
.everyone { stroke: #57d364; }
}
"""


@dataclass(frozen=True)
class Scale:
    """The scales of the axes. That of milliseconds is logarithmic, so that stalls show beside usual latencies."""

    seconds: float
    low: float  # milliseconds, powers of ten
    high: float

    def x(self, second: float) -> float:
        """Return how far to the right a moment is."""
        return LEFT + (RIGHT - LEFT) * min(max(second / self.seconds, 0.0), 1.0)

    def y(self, milliseconds: float) -> float:
        """Return how far down a latency is."""
        share = math.log10(max(milliseconds, self.low) / self.low) / math.log10(self.high / self.low)
        return BOTTOM - (BOTTOM - TOP) * min(share, 1.0)


def draw(report: Report) -> str:
    """Return the plot of a run as the text of an SVG file."""
    lines = _lines(report)
    scale = _scale(report, [value for points in lines.values() for _, value in points if value > 0] or EMPTY_MS)
    svg = Element("svg", xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img")
    svg.set("aria-label", "Latency over time")
    SubElement(svg, "style").text = STYLE
    _draw_titles(svg, report)
    _draw_axes(svg, scale)
    for place, event in enumerate(report.events):
        x, y = scale.x(event.at), TOP + 14 + 16 * (place % 4)
        _line(svg, "event", x, TOP, x, BOTTOM)
        side, shift = ("end", -5) if x > WIDTH * 0.7 else ("start", 5)
        _text(svg, x + shift, y, event.text, kind="event-text", anchor=side)
    for name, points in lines.items():
        _draw_points(svg, scale, name, points)
    _draw_legend(svg, lines)
    indent(svg)
    return tostring(svg, encoding="unicode") + "\n"


def _lines(report: Report) -> Lines:
    """Return the lines that there are figures for: latency, or of a run without members the acknowledgements'."""
    lines: Lines = {}
    for second in report.series:
        latency = second.latency_ms
        values = {"max": latency.max, "p99": latency.p99, "p95": latency.p95, "p50": latency.p50}
        for name, value in (values | {"everyone": second.everyone_ms.p50, "ack": second.ack_ms}).items():
            if value is not None:
                lines.setdefault(name, []).append((second.second + 0.5, value))
    order = [name for name in ("max", "p99", "p95", "p50", "everyone") if name in lines]
    return {name: lines[name] for name in order or lines}


def _scale(report: Report, values: Sequence[float]) -> Scale:
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    ends = [second.second + 1.0 for second in report.series] + [event.at for event in report.events]
    return Scale(seconds=max([1.0, *ends]), low=10.0**low, high=10.0 ** max(high, low + 1))


def _draw_titles(svg: Element, report: Report) -> None:
    wrong = report.lost + report.duplicated + report.out_of_order
    facts = [
        f"{report.rooms:,} rooms" if report.rooms > 1 else "1 room",
        f"{report.delivered:,} delivered",
        f"{wrong:,} lost, doubled or out of order",
    ]
    if report.latency_ms.p99 is not None:
        facts.append(f"p99 {report.latency_ms.p99:,.1f} ms")
    title = f"{report.members:,} members, {rate_of(report.published_per_second)} messages a second"
    _text(svg, LEFT, 28, title, kind="title")
    _text(svg, LEFT, 48, " · ".join(facts), kind="quiet")


def _draw_axes(svg: Element, scale: Scale) -> None:
    power = scale.low
    while power <= scale.high * 1.001:
        y = scale.y(power)
        _line(svg, "grid", LEFT, y, RIGHT, y)
        _text(svg, LEFT - 8, y + 4, f"{power / 1000:g} s" if power >= 1000 else f"{power:g} ms", "quiet", "end")
        power *= 10
    step = _step(scale.seconds)
    for count in range(int(scale.seconds / step) + 1):
        x = scale.x(count * step)
        _line(svg, "axis", x, BOTTOM, x, BOTTOM + 5)
        _text(svg, x, BOTTOM + 20, f"{count * step:g}", "quiet", "middle")
    _line(svg, "axis", LEFT, BOTTOM, RIGHT, BOTTOM)
    _text(svg, (LEFT + RIGHT) / 2, HEIGHT - 22, "second in which a message was published", "quiet", "middle")
    middle = (TOP + BOTTOM) / 2
    upright = _text(svg, 20, middle, "time until it was received", "quiet", "middle")
    upright.set("transform", f"rotate(-90 20 {middle:.0f})")


def _draw_points(svg: Element, scale: Scale, name: str, points: Sequence[tuple[float, float]]) -> None:
    kind = f"line {'p99' if name == 'ack' else name}"
    shape = " ".join(f"{scale.x(at):.1f},{scale.y(value):.1f}" for at, value in points)
    SubElement(svg, "polyline", {"class": kind, "points": shape})
    for at, value in points:
        place = {"cx": f"{scale.x(at):.1f}", "cy": f"{scale.y(value):.1f}", "r": "2"}
        circle = SubElement(svg, "circle", {"class": kind, **place})
        SubElement(circle, "title").text = f"{name} {value:.1f} ms at {at:.1f} s"


def _draw_legend(svg: Element, names: Iterable[str]) -> None:
    x = float(LEFT)
    for name in names:
        text = WORDS.get(name, name)
        _line(svg, f"line {'p99' if name == 'ack' else name}", x, 70, x + 22, 70)
        _text(svg, x + 28, 74, text)
        x += 52 + 7.2 * len(text)


def _line(svg: Element, kind: str, x1: float, y1: float, x2: float, y2: float) -> None:
    ends = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    SubElement(svg, "line", {"class": kind, **{name: f"{value:.1f}" for name, value in ends.items()}})


def _text(svg: Element, x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> Element:
    element = SubElement(svg, "text", {"class": kind, "x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor})
    element.text = text
    return element


def _step(seconds: float) -> float:
    """Return a round distance between marks such that they do not touch."""
    least = seconds * TICK_DISTANCE / (RIGHT - LEFT)
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least)
