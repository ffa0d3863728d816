"""The view of a run under way: a few lines written over again on a terminal, else a line at times."""

from __future__ import annotations

import time
from collections import deque
from typing import TextIO

from chatsite.swarm.conductor import Status
from chatsite.swarm.plan import Plan
from chatsite.swarm.results.latency import Latency

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
        self._window: deque[tuple[float, Status]] = deque()  # of the last second

    def show(self, status: Status) -> None:
        """Write where the run stands, not more often than a person can read."""
        now = time.monotonic()
        self._window.append((now, status))
        while len(self._window) > 2 and self._window[1][0] < now - WINDOW_SECONDS:
            self._window.popleft()
        pause = LINE_SECONDS if self._width is None else FRAME_SECONDS
        if now - self._shown_at < pause and status.phase == self._phase:
            return
        self._shown_at, self._phase = now, status.phase
        lines = self._lines_of(status, now)
        if self._width is None:
            self._output.write(" · ".join(lines) + "\n")
        else:
            self.clear()
            self._output.write("".join(f"{line[: self._width - 1]}\n" for line in lines))
            self._lines = len(lines)
        self._output.flush()

    def clear(self) -> None:
        """Remove the lines from a terminal."""
        if self._lines:
            self._output.write(f"\x1b[{self._lines}F\x1b[J")
            self._lines = 0

    def _lines_of(self, status: Status, now: float) -> list[str]:
        since, before = self._window[0]

        def rate(count: int, earlier: int) -> str:
            return f"{max(0, round((count - earlier) / max(now - since, 0.001)))}/s"

        members, publishers, filled = status.members, status.publishers, round(status.at * BAR)
        bar = "█" * filled + "░" * (BAR - filled) if self._width is not None else f"{status.at:.0%}"
        published = rate(publishers.published, before.publishers.published)
        acknowledged = rate(publishers.acknowledged, before.publishers.acknowledged)
        lines = [
            f"{status.phase} {bar} {now - self._began:.0f} s",
            f"{publishers.published} published ({published}) · {publishers.acknowledged} acknowledged ({acknowledged})",
        ]
        if self._plan.members:
            attached = rate(members.ready, before.members.ready)
            lines.insert(1, f"{members.ready} of {self._plan.members} members (+{attached})")
            p99 = Latency.merged(each.members.recent for _, each in self._window).percentile(0.99)
            words = f"p99 {p99:.1f} ms" if p99 is not None else "p99 -"
            delivered = rate(members.delivered, before.members.delivered)
            lines.append(f"{members.delivered} delivered ({delivered}) · {words} in the last second")
        problems = members.problems + publishers.problems
        return [*lines, *(f"{count} x {text}" for text, count in problems.most_common(2))]
