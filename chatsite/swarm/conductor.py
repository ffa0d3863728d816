"""One run from the first connection to the report: starts the processes, gives the orders, measures."""

from __future__ import annotations

import multiprocessing
import operator
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from chatsite.swarm import processes
from chatsite.swarm.endpoint import run_endpoint
from chatsite.swarm.orders import Finish, Progress, Start
from chatsite.swarm.plan import Plan, SwarmFailed
from chatsite.swarm.processes import run_crowd, run_publishers
from chatsite.swarm.results.latency import Latency
from chatsite.swarm.results.report import Report, compile_report
from chatsite.swarm.results.tally import EndpointTally, Published, Tally
from chatsite.swarm.server.meter import usage_of
from chatsite.swarm.server.target import Target

LEAD_SECONDS = 0.3  # between the order to publish and its moment
END_SECONDS = 5.0
TALLY_SECONDS = 60.0  # a process with a million deliveries takes a while to send its tally
ENDPOINT_SECONDS = 20.0
KILL_SETTLE_SECONDS = 30.0  # at least, for members that come back


@dataclass(kw_only=True)
class Child:
    """One process of the swarm, what it reported last, and what it sent in the end."""

    process: BaseProcess
    pipe: Pipe
    progress: Progress = field(default_factory=Progress)
    result: Any = None


@dataclass(frozen=True, kw_only=True)
class Status:
    """Where the whole run stands. `at` is the share of its phase that is over; members and publishers are added up.

    `recent` latencies of both are those since the status before.
    """

    phase: str
    at: float
    members: Progress
    publishers: Progress


Show = Callable[[Status], None]


class Conductor:
    """Carries out one plan. `show` is called a few times a second. `data`: the local instance's folder."""

    def __init__(self, plan: Plan, pids: Sequence[int], show: Show, *, data: Path | None = None) -> None:
        self.plan = plan
        self._target = Target(plan, pids, data)
        self._show = show
        # Forked from a process of their own: a fork of this one would copy Django's connections and threads.
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([processes.__name__])
        self._crowds: list[Child] = []
        self._publishers: list[Child] = []
        self._endpoint: list[Child] = []  # one or none

    def run(self) -> Report:
        """Return the report of the whole run. Raises SwarmFailed."""
        try:
            return self._run()
        finally:
            for child in self._children:
                child.process.terminate()
            for child in self._children:
                child.process.join(END_SECONDS)

    @property
    def _children(self) -> list[Child]:
        return [*self._crowds, *self._publishers, *self._endpoint]

    def _run(self) -> Report:
        plan = self.plan
        self._target.before_members()
        if plan.review is not None:
            self._start_endpoint()
        self._crowds = [self._start(run_crowd, plan, *share) for share in enumerate(plan.member_shares())]
        self._publishers = [self._start(run_publishers, plan, places) for places in plan.publisher_shares()]
        self._wait_for_members()
        used = [usage_of(child.process.pid or 0) or (0.0, 0) for child in self._children]
        started = time.monotonic() + LEAD_SECONDS
        self._target.publishing(started)
        for child in self._children:
            child.pipe.send(Start(started))
        published = self._publish(started)
        publish_seconds = time.monotonic() - started
        tallies = self._finish(published)
        usage = self._target.usage()
        usage.started, usage.publish_seconds = started, publish_seconds
        usage.swarm_processes, usage.swarm_memory_bytes = len(self._children), sum(memory for _, memory in used)
        usage.endpoint = self._ask_endpoint()
        return compile_report(plan, published, tallies, usage)

    # --- Phases -------------------------------------------------------------------------------------------

    def _wait_for_members(self) -> None:
        """Wait until all are there; some may be missing at the deadline. Raises SwarmFailed if all are."""
        plan, began = self.plan, time.monotonic()
        while (spent := time.monotonic() - began) < plan.connect_seconds:
            attached, connected = _total(self._crowds).ready, _total(self._publishers).ready
            if attached == plan.members and connected == plan.publishers:
                return
            self._listen("connecting", attached / plan.members if plan.members else spent / plan.connect_seconds)
        if (plan.members and not attached) or (plan.publishers and not connected):
            words = f"Nobody got in within {plan.connect_seconds:g} s. Is the server at {plan.url} running?"
            raise SwarmFailed(words + self._problems())

    def _publish(self, started: float) -> list[Published]:
        """Wait for the publishers, or where there are none for as long as was asked."""
        seconds = self.plan.seconds
        if not self._publishers:
            while (spent := time.monotonic() - started) < seconds:
                self._listen("idle", spent / seconds)
        patience = seconds + self.plan.settle_seconds
        return [self._result_of(child, "publishing", started, patience, seconds) for child in self._publishers]

    def _finish(self, published: Sequence[Published]) -> list[Tally]:
        heads = reduce(operator.or_, (each.heads for each in published), Counter[int]())  # the highest of each room
        # Where a verdict took long, a publisher is told that its message is safe, and no serial.
        is_one_log = self.plan.review is not None and self.plan.rooms == 1
        messages = sum(len(each.acknowledged) for each in published) if is_one_log else 0
        least = KILL_SETTLE_SECONDS if self._target.kills.get("gateway") is not None else 0.0
        seconds = max(self.plan.settle_seconds, least)
        for child in self._crowds:
            child.pipe.send(Finish(heads=heads, seconds=seconds, messages=messages))
        began, patience = time.monotonic(), seconds + TALLY_SECONDS
        return [self._result_of(child, "receiving", began, patience, patience) for child in self._crowds]

    # --- Processes ----------------------------------------------------------------------------------------

    def _start(self, target: Callable[..., None], *arguments: Any) -> Child:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=target, args=(*arguments, theirs), daemon=True)
        process.start()
        theirs.close()
        return Child(process=process, pipe=ours)

    def _start_endpoint(self) -> None:
        """Start the swarm's own Lambda. Raises SwarmFailed where its port is taken."""
        endpoint = self._start(run_endpoint, self.plan)
        self._endpoint.append(endpoint)
        if not endpoint.pipe.poll(ENDPOINT_SECONDS):
            raise SwarmFailed("The swarm's own Lambda did not start.")
        if (problem := endpoint.pipe.recv()) is not None:
            raise SwarmFailed(problem)

    def _ask_endpoint(self) -> EndpointTally | None:
        for child in self._endpoint:
            child.pipe.send(Finish())
            tally: EndpointTally = self._result_of(child, "reviewing", time.monotonic(), TALLY_SECONDS, TALLY_SECONDS)
            return tally
        return None

    def _result_of(self, child: Child, phase: str, began: float, patience: float, usual: float) -> Any:
        """Wait until a process has sent its result. Raises SwarmFailed if it does not come in time."""
        while child.result is None:
            spent = time.monotonic() - began
            if spent > patience + END_SECONDS:
                raise SwarmFailed(f"A process of the swarm did not finish {phase}.{self._problems()}")
            self._listen(phase, spent / usual)
        return child.result

    def _listen(self, phase: str, at: float) -> None:
        """Receive what the processes report, and show it; kill when the time has come."""
        self._target.kill_when_due()
        busy = {child.pipe: child for child in self._children if child.result is None}
        for child in self._children:
            child.progress.recent = Latency()
        for pipe in wait(list(busy), timeout=0.2):
            child = busy[pipe]  # type: ignore[index] # wait() returns what it was given
            try:
                received = child.pipe.recv()
            except EOFError:
                raise SwarmFailed("A process of the swarm ended; its error is above.") from None
            if not isinstance(received, Progress):
                child.result = received
                continue
            child.progress = received
            if received.hopeless is not None:
                raise SwarmFailed(received.hopeless)
        members, publishers = _total(self._crowds), _total(self._publishers)
        self._show(Status(phase=phase, at=min(max(at, 0.0), 1.0), members=members, publishers=publishers))

    def _problems(self) -> str:
        """Return the most frequent problems of the processes, for the end of an error."""
        met = _total(self._children).problems
        return "".join(f"\n{count} x {text}" for text, count in met.most_common(3))


def _total(children: Iterable[Child]) -> Progress:
    return Progress.total(child.progress for child in children)
