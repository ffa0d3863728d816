"""One run from the first connection to the report: starts the processes, gives the orders, measures."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from chatsite.swarm import clock, killing, meter, processes, scrape
from chatsite.swarm.endpoint import EndpointTally, run_endpoint
from chatsite.swarm.killing import Kill
from chatsite.swarm.latency import Latency
from chatsite.swarm.meter import Meter
from chatsite.swarm.orders import Finish, Progress, Start
from chatsite.swarm.plan import LOOPBACK, Plan, Protocol
from chatsite.swarm.processes import run_crowd, run_publishers
from chatsite.swarm.publishers import Published
from chatsite.swarm.report import Report
from chatsite.swarm.summary import Usage, compile_report
from chatsite.swarm.tally import Tally

LEAD_SECONDS = 0.3  # between the order to publish and its moment
END_SECONDS = 5.0
TALLY_SECONDS = 60.0  # a process with a million deliveries to tell of takes a while
ENDPOINT_SECONDS = 20.0
KILL_SETTLE_SECONDS = 30.0  # at least, for members that come back


class SwarmFailed(Exception):
    """The run could not be carried out; the text says why."""


@dataclass(kw_only=True)
class Worker:
    """One process and where it stands."""

    process: BaseProcess
    pipe: Pipe
    progress: Progress = field(default_factory=Progress)
    result: Any = None


@dataclass(frozen=True, kw_only=True)
class Status:
    """Where the whole run stands. `at` is the share of its phase that is over, `recent` what arrived since the last."""

    phase: str
    at: float
    crowds: Sequence[Progress]
    offices: Sequence[Progress]
    recent: Latency


Show = Callable[[Status], None]


class Conductor:
    """Carries out one plan. `show` is called a few times a second. `data`: the local instance's folder."""

    def __init__(self, plan: Plan, pids: Sequence[int], show: Show, *, data: Path | None = None) -> None:
        self.plan = plan
        self._pids = pids
        self._show = show
        self._data = data
        # Forked from a process of their own: a fork of this one would copy Django's connections and threads.
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([processes.__name__])
        self._crowds: list[Worker] = []
        self._offices: list[Worker] = []
        self._busy = Meter([])
        self._endpoint: Worker | None = None
        self._kill_at: float | None = None
        self._kill: Kill | None = None
        self._kill_worker_at: float | None = None
        self._worker_kill: Kill | None = None

    def run(self) -> Report:
        """Return the report of the whole run. Raises SwarmFailed."""
        try:
            return self._run()
        finally:
            for worker in self._workers:
                worker.process.terminate()
            for worker in self._workers:
                worker.process.join(END_SECONDS)

    @property
    def _workers(self) -> list[Worker]:
        return [*self._crowds, *self._offices, *([self._endpoint] if self._endpoint else [])]

    def _run(self) -> Report:
        plan = self.plan
        offset = clock.measure_offset(plan.address) if plan.protocol is Protocol.CHAT and not plan.is_tls else None
        counters = self._scrape()
        idle = Meter(self._pids)
        if plan.review is not None:
            self._endpoint = self._start_endpoint()
        self._crowds = [self._start(run_crowd, plan, share) for share in plan.shares()]
        self._offices = [self._start(run_publishers, plan, places) for places in plan.offices()]
        self._wait_for_members()
        self._busy, memory = Meter(self._pids), idle.memory()
        own_memory = sum(meter.resident_bytes(worker.process.pid or 0) for worker in self._workers)
        started = time.monotonic() + LEAD_SECONDS
        self._kill_at = None if plan.kill_after is None else started + plan.kill_after
        self._kill_worker_at = None if plan.kill_worker_after is None else started + plan.kill_worker_after
        for worker in self._workers:
            worker.pipe.send(Start(at=started))
        published = self._publish(started)
        publish_seconds = time.monotonic() - started
        tallies = self._finish(published)
        cpu = self._busy.cpu()
        measured = bool(idle.processes)
        usage = Usage(
            started=started,
            clock_offset=offset,
            publish_seconds=publish_seconds,
            swarm_memory_bytes=own_memory,
            swarm_processes=len(self._workers),
            server_processes=self._busy.processes,
            server_cpu_seconds=cpu if measured else None,
            server_memory_bytes=memory if measured else None,
            kill=self._kill,
            worker_kill=self._worker_kill,
            endpoint=self._ask_endpoint(),
            counters=scrape.grown(counters, self._scrape()),
        )
        return compile_report(plan, published, tallies, usage)

    # --- Phases -------------------------------------------------------------------------------------------

    def _wait_for_members(self) -> None:
        """Wait until all are there; some may be missing at the deadline. Raises SwarmFailed if all are."""
        plan, began = self.plan, time.monotonic()
        attached = connected = 0
        while (spent := time.monotonic() - began) < plan.connect_seconds:
            attached = sum(crowd.progress.ready for crowd in self._crowds)
            connected = sum(office.progress.ready for office in self._offices)
            if attached == plan.members and connected == plan.publishers:
                return
            self._listen("connecting", attached / plan.members if plan.members else spent / plan.connect_seconds)
        if (plan.members and not attached) or (plan.publishers and not connected):
            words = f"Nobody got in within {plan.connect_seconds:g} s. Is the server at {plan.url} running?"
            raise SwarmFailed(words + self._trouble())

    def _publish(self, started: float) -> list[Published]:
        """Wait for the publishers, or where there are none for as long as was asked."""
        seconds = self.plan.seconds
        if not self._offices:
            while (spent := time.monotonic() - started) < seconds:
                self._listen("idle", spent / seconds)
        patience = seconds + self.plan.settle_seconds
        return [self._result_of(office, "publishing", started, patience, Published) for office in self._offices]

    def _finish(self, published: Sequence[Published]) -> list[Tally]:
        heads: dict[int, int] = {}
        for each in published:
            for room, head in each.heads.items():
                heads[room] = max(head, heads.get(room, 0))
        # Where a verdict took long, a publisher is told that its message is safe, and no serial.
        is_one_log = self.plan.review is not None and self.plan.rooms == 1
        messages = sum(len(each.acknowledged) for each in published) if is_one_log else 0
        seconds = self.plan.settle_seconds if self._kill is None else max(self.plan.settle_seconds, KILL_SETTLE_SECONDS)
        for crowd in self._crowds:
            crowd.pipe.send(Finish(heads=heads, seconds=seconds, messages=messages))
        began = time.monotonic()
        return [self._result_of(crowd, "receiving", began, seconds + TALLY_SECONDS, Tally) for crowd in self._crowds]

    # --- Processes ----------------------------------------------------------------------------------------

    def _start(self, target: Callable[..., None], *arguments: Any) -> Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=target, args=(*arguments, theirs), daemon=True)
        process.start()
        theirs.close()
        return Worker(process=process, pipe=ours)

    def _start_endpoint(self) -> Worker:
        """Start the swarm's own Lambda. Raises SwarmFailed where its port is taken."""
        endpoint = self._start(run_endpoint, self.plan)
        if not endpoint.pipe.poll(ENDPOINT_SECONDS):
            raise SwarmFailed("The swarm's own Lambda did not start.")
        if (problem := endpoint.pipe.recv()) is not None:
            raise SwarmFailed(problem)
        return endpoint

    def _ask_endpoint(self) -> EndpointTally | None:
        if self._endpoint is None:
            return None
        self._endpoint.pipe.send(Finish())
        result: EndpointTally = self._result_of(
            self._endpoint, "reviewing", time.monotonic(), TALLY_SECONDS, EndpointTally
        )
        return result

    def _result_of(self, worker: Worker, phase: str, began: float, seconds: float, kind: type[Any]) -> Any:
        while not isinstance(worker.result, kind):
            spent = time.monotonic() - began
            if spent > seconds + END_SECONDS:
                raise SwarmFailed(f"A process of the swarm did not finish {phase}.{self._trouble()}")
            self._listen(phase, spent / (self.plan.seconds if kind is Published else seconds))
        return worker.result

    def _listen(self, phase: str, at: float) -> None:
        """Take what the processes tell, and show it; kill when the time has come."""
        self._kill_when_due(time.monotonic())
        by_pipe = {worker.pipe: worker for worker in self._workers}
        recent = []
        for pipe in wait([worker.pipe for worker in self._workers if worker.result is None], timeout=0.2):
            worker = by_pipe[pipe]  # type: ignore[index] # wait() returns what it was given
            try:
                told = worker.pipe.recv()
            except EOFError:
                raise SwarmFailed("A process of the swarm ended; its error is above.") from None
            if not isinstance(told, Progress):
                worker.result = told
                continue
            worker.progress = told
            recent.append(told.recent)
            if told.hopeless is not None:
                raise SwarmFailed(told.hopeless)
        self._show(
            Status(
                phase=phase,
                at=min(max(at, 0.0), 1.0),
                crowds=[crowd.progress for crowd in self._crowds],
                offices=[office.progress for office in self._offices],
                recent=Latency.merged(recent),
            )
        )

    # --- The server ---------------------------------------------------------------------------------------

    def _kill_when_due(self, now: float) -> None:
        if self._kill_worker_at is not None and now >= self._kill_worker_at and self._data is not None:
            self._kill_worker_at = None
            self._worker_kill = killing.kill_one(killing.workers_of(self._data), now)
        if self._kill_at is not None and now >= self._kill_at and self._data is not None:
            self._busy.cpu()  # the last look at what is about to end
            self._kill_at = None
            self._kill = killing.kill_one(killing.gateways_of(self._data), now)
        elif self._kill is not None and self._data is not None:
            self._busy.follow(killing.gateways_of(self._data).values())

    def _scrape(self) -> scrape.Counters:
        if self._data is None or self.plan.address[0] not in LOOPBACK or self.plan.is_tls:
            return {}
        return scrape.scrape(self.plan.address, gateways=max(1, len(killing.gateways_of(self._data))))

    def _trouble(self) -> str:
        """Return what the processes met with most, for the end of an error."""
        met = sum((worker.progress.problems for worker in self._workers), start=Counter[str]())
        return "".join(f"\n{count} x {text}" for text, count in met.most_common(3))
