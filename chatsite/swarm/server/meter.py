"""CPU and memory of processes, such as the server's while a swarm is connected to it."""

from __future__ import annotations

from collections.abc import Iterable

import psutil


class Meter:
    """CPU and memory of some processes since the meter was made. A process that ended counts as it was last seen."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._before = {pid: used for pid in pids if (used := usage_of(pid)) is not None}
        self._latest = dict(self._before)

    @property
    def processes(self) -> int:
        """How many processes are or were measured."""
        return len(self._before)

    def follow(self, pids: Iterable[int]) -> None:
        """Measure further processes, which were started since."""
        for pid in pids:
            if pid not in self._before and (used := usage_of(pid)) is not None:
                self._before[pid], self._latest[pid] = (0.0, 0), used

    def used(self) -> tuple[float, int]:
        """Return the CPU seconds used since the meter was made, and by how many bytes resident memory grew."""
        for pid, latest in self._latest.items():
            self._latest[pid] = usage_of(pid) or latest
        cpu = sum(self._latest[pid][0] - before for pid, (before, _) in self._before.items())
        return cpu, sum(self._latest[pid][1] - before for pid, (_, before) in self._before.items())


def usage_of(pid: int) -> tuple[float, int] | None:
    """Return the CPU seconds and the resident bytes of a process, None if there is no such process."""
    try:
        process = psutil.Process(pid)
        times = process.cpu_times()
        return times.user + times.system, process.memory_info().rss
    except psutil.Error:
        return None
