"""Latency over time as a drawing that needs nothing else: one SVG, light or dark as the viewer is. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape

from chatsite.swarm.report import Report, rate_of

WIDTH, HEIGHT = 960, 540
LEFT, RIGHT, TOP, BOTTOM = 80, 24, 92, 64
TICK_DISTANCE = 90  # at least, between two marks of the time
EMPTY_MS = (1.0, 1000.0)  # the scale of a run without a latency

Points = Sequence[tuple[float, float]]

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
    """Where seconds and milliseconds lie on the paper. Milliseconds are logarithmic: a stall and the usual show."""

    seconds: float
    low: float  # milliseconds, powers of ten
    high: float

    def x(self, second: float) -> float:
        """Return how far to the right a moment is."""
        return LEFT + (WIDTH - LEFT - RIGHT) * min(max(second / self.seconds, 0.0), 1.0)

    def y(self, milliseconds: float) -> float:
        """Return how far down a latency is."""
        span = math.log10(self.high) - math.log10(self.low)
        share = (math.log10(max(milliseconds, self.low)) - math.log10(self.low)) / span
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(share, 1.0)


def draw(report: Report) -> str:
    """Return the plot of a run as the text of an SVG file."""
    lines = _lines(report)
    scale = _scale(report, [value for _, points in lines for _, value in points])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="Latency over time">',
        f"<style>{STYLE}</style>",
        *_titles(report),
        *_grid(scale),
        *(_event(scale, place, event.at, event.text) for place, event in enumerate(report.events)),
        *(_line(scale, name, points) for name, points in lines),
        *_legend([name for name, _ in lines]),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _lines(report: Report) -> list[tuple[str, Points]]:
    """Return the lines that there are figures for: latency, or of a run without members the acknowledgements'."""
    getters: dict[str, Callable[[int], float | None]] = {
        "max": lambda place: report.series[place].latency_ms.max,
        "p99": lambda place: report.series[place].latency_ms.p99,
        "p95": lambda place: report.series[place].latency_ms.p95,
        "p50": lambda place: report.series[place].latency_ms.p50,
        "everyone": lambda place: report.series[place].everyone_ms.p50,
        "ack": lambda place: report.series[place].ack_ms,
    }
    lines: list[tuple[str, Points]] = []
    for name, getter in getters.items():
        found = [(second.second + 0.5, getter(place)) for place, second in enumerate(report.series)]
        points = [(at, value) for at, value in found if value is not None]
        if points and (name != "ack" or not lines):
            lines.append((name, points))
    return lines


def _scale(report: Report, values: Iterable[float]) -> Scale:
    found = [value for value in values if value > 0] or list(EMPTY_MS)
    low, high = math.floor(math.log10(min(found))), math.ceil(math.log10(max(found)))
    ends = [second.second + 1.0 for second in report.series] + [event.at for event in report.events]
    return Scale(seconds=max([1.0, *ends]), low=10.0**low, high=10.0 ** max(high, low + 1))


def _titles(report: Report) -> list[str]:
    wrong = report.lost + report.duplicated + report.out_of_order
    title = f"{report.members:,} members, {rate_of(report.published_per_second)} messages a second"
    facts = [
        f"{report.rooms:,} rooms" if report.rooms > 1 else "1 room",
        f"{report.delivered:,} delivered",
        f"{wrong:,} lost, doubled or out of order",
        f"p99 {report.latency_ms.p99:,.1f} ms" if report.latency_ms.p99 is not None else "",
    ]
    return [
        f'<text class="title" x="{LEFT}" y="28">{escape(title)}</text>',
        f'<text class="quiet" x="{LEFT}" y="48">{escape(" · ".join(filter(None, facts)))}</text>',
    ]


def _grid(scale: Scale) -> list[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    power = scale.low
    while power <= scale.high * 1.001:
        y = scale.y(power)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="quiet" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_milliseconds(power)}</text>'
        )
        power *= 10
    step = _step(scale.seconds)
    for count in range(int(scale.seconds / step) + 1):
        x = scale.x(count * step)
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 5}"/>')
        parts.append(f'<text class="quiet" x="{x:.1f}" y="{bottom + 20}" text-anchor="middle">{count * step:g}</text>')
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    middle = (LEFT + right) / 2
    parts.append(
        f'<text class="quiet" x="{middle:.0f}" y="{HEIGHT - 22}" text-anchor="middle">'
        "second in which a message was published</text>"
    )
    parts.append(
        f'<text class="quiet" x="20" y="{(TOP + bottom) / 2:.0f}" text-anchor="middle" '
        f'transform="rotate(-90 20 {(TOP + bottom) / 2:.0f})">time until it was received</text>'
    )
    return parts


def _event(scale: Scale, place: int, at: float, text: str) -> str:
    x, y = scale.x(at), TOP + 14 + 16 * (place % 4)
    side = "end" if x > WIDTH * 0.7 else "start"
    return (
        f'<line class="event" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        f'<text class="event-text" x="{x + (-5 if side == "end" else 5):.1f}" y="{y}" text-anchor="{side}">'
        f"{escape(text)}</text>"
    )


def _line(scale: Scale, name: str, points: Points) -> str:
    shape = " ".join(f"{scale.x(at):.1f},{scale.y(value):.1f}" for at, value in points)
    kind = "p99" if name == "ack" else name
    dots = "".join(
        f'<circle class="line {kind}" cx="{scale.x(at):.1f}" cy="{scale.y(value):.1f}" r="2">'
        f"<title>{name} {value:.1f} ms at {at:.1f} s</title></circle>"
        for at, value in points
    )
    return f'<polyline class="line {kind}" points="{shape}"/>{dots}'


def _legend(names: Sequence[str]) -> list[str]:
    words = {"everyone": "until everyone had it (median)", "ack": "acknowledged (p99)"}
    parts, x = [], float(LEFT)
    for name in names:
        text = words.get(name, name)
        kind = "p99" if name == "ack" else name
        parts.append(f'<line class="line {kind}" x1="{x:.0f}" x2="{x + 22:.0f}" y1="70" y2="70"/>')
        parts.append(f'<text x="{x + 28:.0f}" y="74">{text}</text>')
        x += 52 + 7.2 * len(text)
    return parts


def _step(seconds: float) -> float:
    """Return a round distance between marks such that they do not touch."""
    least = seconds * TICK_DISTANCE / (WIDTH - LEFT - RIGHT)
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least)


def _milliseconds(value: float) -> str:
    return f"{value / 1000:g} s" if value >= 1000 else f"{value:g} ms"
