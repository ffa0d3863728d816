"""What a person sees while a run is under way: a few lines written over again on a terminal, else a line at times."""

from __future__ import annotations

import time
from collections import Counter, deque
from typing import TextIO

from chatsite.swarm.conductor import Status
from chatsite.swarm.latency import Latency
from chatsite.swarm.plan import Plan

BAR = 24
LINE_SECONDS = 3.0
FRAME_SECONDS = 0.1
WINDOW_SECONDS = 1.0


class Display:
    """Shows each Status. `width` is the terminal's; None: the output is a file or a pipe."""

    def __init__(self, plan: Plan, output: TextIO, *, width: int | None) -> None:
        self._plan = plan
        self._output = output
        self._width = width
        self._began = time.monotonic()
        self._shown_at = 0.0
        self._phase = ""
        self._lines = 0
        self._window: deque[tuple[float, Counter[str], Latency]] = deque()

    def show(self, status: Status) -> None:
        """Write where the run stands, not more often than a person can read."""
        now = time.monotonic()
        counts = _counts(status)
        self._window.append((now, counts, status.recent))
        while len(self._window) > 2 and self._window[1][0] < now - WINDOW_SECONDS:
            self._window.popleft()
        pause = LINE_SECONDS if self._width is None else FRAME_SECONDS
        if now - self._shown_at < pause and status.phase == self._phase:
            return
        self._shown_at, self._phase = now, status.phase
        lines = self._lines_of(status, counts, now)
        if self._width is None:
            self._output.write(" · ".join(lines) + "\n")
        else:
            self.clear()
            self._output.write("".join(f"{line[: self._width - 1]}\n" for line in lines))
            self._lines = len(lines)
        self._output.flush()

    def clear(self) -> None:
        """Take away what was written, on a terminal."""
        if self._lines:
            self._output.write(f"\x1b[{self._lines}F\x1b[J")
            self._lines = 0

    def _lines_of(self, status: Status, counts: Counter[str], now: float) -> list[str]:
        filled = round(status.at * BAR)
        bar = "█" * filled + "░" * (BAR - filled) if self._width is not None else f"{status.at:.0%}"
        rate = self._rates(counts, now)
        lines = [f"{status.phase} {bar} {now - self._began:.0f} s"]
        if self._plan.members:
            lines.append(f"{counts['members']} of {self._plan.members} members (+{rate['members']}/s)")
        lines.append(
            f"{counts['published']} published ({rate['published']}/s) · {counts['acknowledged']} acknowledged "
            f"({rate['acknowledged']}/s)"
        )
        if self._plan.members:
            p99 = Latency.merged(recent for _, _, recent in self._window).percentile(0.99)
            words = f"p99 {p99:.1f} ms" if p99 is not None else "p99 -"
            lines.append(f"{counts['delivered']} delivered ({rate['delivered']}/s) · {words} in the last second")
        problems = sum((each.problems for each in (*status.crowds, *status.offices)), Counter[str]())
        return [*lines, *(f"{count} x {text}" for text, count in problems.most_common(2))]

    def _rates(self, counts: Counter[str], now: float) -> dict[str, int]:
        since, before, _ = self._window[0]
        seconds = max(now - since, 0.001)
        return {name: max(0, round((counts[name] - before[name]) / seconds)) for name in counts}


def _counts(status: Status) -> Counter[str]:
    return Counter(
        members=sum(each.ready for each in status.crowds),
        delivered=sum(each.delivered for each in status.crowds),
        published=sum(each.published for each in status.offices),
        acknowledged=sum(each.acknowledged for each in status.offices),
    )
