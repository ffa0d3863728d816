"""CPU and memory of the server's processes while a swarm is connected to them."""

from __future__ import annotations

from collections.abc import Iterable

import psutil


class Meter:
    """CPU and memory of some processes since the meter was made. A process that ended counts as it was last seen."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._cpu = {pid: used for pid in pids if (used := cpu_seconds(pid)) is not None}
        self._latest = dict(self._cpu)
        self._memory = {pid: resident_bytes(pid) for pid in self._cpu}

    @property
    def processes(self) -> int:
        """How many processes are or were measured."""
        return len(self._cpu)

    def follow(self, pids: Iterable[int]) -> None:
        """Measure further processes, which were started since."""
        for pid in pids:
            if pid not in self._cpu and cpu_seconds(pid) is not None:
                self._cpu[pid] = self._latest[pid] = 0.0
                self._memory[pid] = 0

    def cpu(self) -> float:
        """Return the CPU seconds used since the meter was made."""
        for pid in self._cpu:
            self._latest[pid] = cpu_seconds(pid) or self._latest[pid]
        return sum(self._latest[pid] - self._cpu[pid] for pid in self._cpu)

    def memory(self) -> int:
        """Return by how many resident bytes the processes grew."""
        return sum(resident_bytes(pid) - before for pid, before in self._memory.items())


def cpu_seconds(pid: int) -> float | None:
    """Return the CPU time of a process in seconds, None if there is no such process."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return None
    return float(times.user + times.system)


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process, 0 if there is no such process."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0
