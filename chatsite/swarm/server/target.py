"""The server under test: what a run costs it, what its gateways count, and the kill -9 of its processes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from chatsite.swarm.plan import LOOPBACK, Plan, Protocol
from chatsite.swarm.results.tally import Kill, Usage
from chatsite.swarm.server import clock, counters
from chatsite.swarm.server.instance import kill_one, processes_of
from chatsite.swarm.server.meter import Meter


class Target:
    """Measures the server, and kills its processes. `data`: the local instance's folder."""

    def __init__(self, plan: Plan, pids: Sequence[int], data: Path | None) -> None:
        self._plan = plan
        self._pids = pids
        self._data = data
        self._offset: float | None = None
        self._counters: counters.Counters = {}
        self._idle = self._busy = Meter([])
        self._memory = 0
        self._due: dict[str, float] = {}  # when to kill a gateway, a worker
        self.kills: dict[str, Kill | None] = {}

    def before_members(self) -> None:
        """Measure the server at rest."""
        if self._plan.protocol is Protocol.CHAT and not self._plan.is_tls:
            self._offset = clock.measure_offset(self._plan.address)
        self._counters = self._scrape()
        self._idle = Meter(self._pids)

    def publishing(self, started: float) -> None:
        """Measure CPU from now on, and the memory that the members took. `started`: when publishing begins."""
        self._busy, (_, self._memory) = Meter(self._pids), self._idle.used()
        moments = {"gateway": self._plan.kill_gateway, "worker": self._plan.kill_worker}
        self._due = {command: started + after for command, after in moments.items() if after is not None}

    def kill_when_due(self) -> None:
        """Kill what is to be killed by now, and measure the gateway that replaces a killed one."""
        if self._data is None:
            return
        if self.kills.get("gateway") is not None:
            self._busy.follow(processes_of(self._data, "gateway").values())
        for command, moment in list(self._due.items()):
            if moment <= time.monotonic():
                del self._due[command]
                self._busy.used()  # the last look at a process that is about to end
                self.kills[command] = kill_one(self._data, command)

    def usage(self) -> Usage:
        """Return what was measured of the server."""
        is_measured = bool(self._idle.processes)
        return Usage(
            clock_offset=self._offset,
            server_processes=self._busy.processes,
            server_cpu_seconds=self._busy.used()[0] if is_measured else None,
            server_memory_bytes=self._memory if is_measured else None,
            kill=self.kills.get("gateway"),
            worker_kill=self.kills.get("worker"),
            counters=counters.grown(self._counters, self._scrape()),
        )

    def _scrape(self) -> counters.Counters:
        if self._data is None or self._plan.address[0] not in LOOPBACK or self._plan.is_tls:
            return {}
        gateways = len(processes_of(self._data, "gateway"))
        return counters.scrape(self._plan.address, gateways=max(1, gateways))
