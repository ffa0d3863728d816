"""One run from the first connection to the report: starts the processes, gives the orders, measures."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

from chatsite.swarm.crowd import Tally
from chatsite.swarm.meter import Meter
from chatsite.swarm.plan import Plan
from chatsite.swarm.processes import Finish, Progress, Start, run_crowd, run_publishers
from chatsite.swarm.publishers import Published
from chatsite.swarm.report import Report, Usage, compile_report

LEAD_SECONDS = 0.3  # between the order to publish and its moment
END_SECONDS = 5.0


class SwarmFailed(Exception):
    """The run could not be carried out; the text says why."""


@dataclass(kw_only=True)
class Worker:
    """One process and where it stands."""

    process: BaseProcess
    pipe: Pipe
    progress: Progress
    result: Any = None


Show = Callable[[str, Sequence[Progress], Progress], None]


class Conductor:
    """Carries out one plan. `show` is called a few times a second with the phase and where everybody stands."""

    def __init__(self, plan: Plan, pids: Sequence[int], show: Show) -> None:
        self.plan = plan
        self._pids = pids
        self._show = show
        # Spawned: a fork would copy Django's connections and threads.
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[Worker] = []

    def run(self) -> Report:
        """Return the report of the whole run. Raises SwarmFailed."""
        try:
            return self._run()
        finally:
            for worker in self._workers:
                worker.process.terminate()
            for worker in self._workers:
                worker.process.join(END_SECONDS)

    def _run(self) -> Report:
        plan = self.plan
        idle = Meter(self._pids)
        crowds = [
            self._start(run_crowd, plan, members, plan.source(place)) for place, members in enumerate(plan.shares())
        ]
        office = self._start(run_publishers, plan)
        self._wait_for_members(crowds, office)
        busy, own = Meter(self._pids), Meter([worker.process.pid or 0 for worker in self._workers])
        memory = idle.memory()
        started = time.monotonic() + LEAD_SECONDS
        office.pipe.send(Start(at=started))
        published = self._wait_for_result(office, "publishing", plan.seconds + plan.settle_seconds, Published)
        for crowd in crowds:
            crowd.pipe.send(Finish(head=published.head, seconds=plan.settle_seconds))
        tallies = [self._wait_for_result(crowd, "receiving", plan.settle_seconds, Tally) for crowd in crowds]
        measured = bool(idle.processes)
        usage = Usage(
            connect_seconds=max(tally.attached_at for tally in tallies) - min(tally.opened_at for tally in tallies),
            publish_seconds=time.monotonic() - started,
            swarm_cpu_seconds=own.cpu(),
            server_processes=busy.processes,
            server_cpu_seconds=busy.cpu() if measured else None,
            server_memory_bytes=memory if measured else None,
        )
        return compile_report(plan, published, tallies, usage)

    def _start(self, target: Callable[..., None], *arguments: Any) -> Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=target, args=(*arguments, theirs), daemon=True)
        process.start()
        theirs.close()
        worker = Worker(process=process, pipe=ours, progress=Progress(ready=0))
        self._workers.append(worker)
        return worker

    def _wait_for_members(self, crowds: Sequence[Worker], office: Worker) -> None:
        """Wait until all are attached; some may be missing at the deadline. Raises SwarmFailed if all are."""
        attached, deadline = 0, time.monotonic() + self.plan.connect_seconds
        while time.monotonic() < deadline:
            self._listen("connecting")
            attached = sum(crowd.progress.ready for crowd in crowds)
            if attached == self.plan.members and office.progress.ready == self.plan.publishers:
                return
        if not attached or not office.progress.ready:
            raise SwarmFailed(
                f"Nobody got in within {self.plan.connect_seconds:g} s. Is the server at {self.plan.url} running?"
            )

    def _wait_for_result(self, worker: Worker, phase: str, seconds: float, kind: type[Any]) -> Any:
        deadline = time.monotonic() + seconds + END_SECONDS
        while not isinstance(worker.result, kind):
            if time.monotonic() > deadline:
                raise SwarmFailed(f"A process of the swarm did not finish {phase}.")
            self._listen(phase)
        return worker.result

    def _listen(self, phase: str) -> None:
        """Take what the processes tell, and show it."""
        by_pipe = {worker.pipe: worker for worker in self._workers}
        for pipe in wait([worker.pipe for worker in self._workers if worker.result is None], timeout=0.2):
            worker = by_pipe[pipe]  # type: ignore[index] # wait() returns what it was given
            try:
                told = worker.pipe.recv()
            except EOFError:
                raise SwarmFailed("A process of the swarm ended; its error is above.") from None
            if isinstance(told, Progress):
                worker.progress = told
            else:
                worker.result = told
            if isinstance(told, Progress) and told.hopeless is not None:
                raise SwarmFailed(told.hopeless)
        *crowds, office = self._workers
        self._show(phase, [crowd.progress for crowd in crowds], office.progress)
