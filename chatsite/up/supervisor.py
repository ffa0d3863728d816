"""Keeps child processes running, and ends all of them.

A service is started, awaited until it is ready, and started again whenever it ends, with a growing pause.
All of it runs in one asyncio loop in the main thread and makes no other thread: the kernel's death signal
follows the thread that forks, and a fork beside threads may meet a lock that nobody releases in the child.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chatsite.up.processes import popen_options, read_tail, rotate_log

FIRST_PAUSE_SECONDS = 0.1  # most deaths are single: come back at once
MAX_PAUSE_SECONDS = 5.0
HEALTHY_SECONDS = 10.0  # a process that lived so long starts again after the first pause
START_ATTEMPTS = 5  # deaths before the first readiness; then the whole start fails with the log
READY_SECONDS = 60.0
POLL_SECONDS = 0.03
LOG_CHECK_SECONDS = 10.0
# All of `up` stops within 5 s: a phase with these (a gateway takes up to 2 s to finish its requests), the phase of
# the servers with a shorter patience (what they hold is safe, they recover), and a final sweep.
STOP_SECONDS = 2.4
KILL_SECONDS = 0.3


class ServiceFailed(Exception):
    """A service did not become ready; the text holds the end of its log."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """A command to keep running: `prepare` runs before every start, `is_ready` (below 1 s) is polled after it."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[], None] | None = None
    is_ready: Callable[[], bool] | None = None
    user: str | None = None
    folder: Path | None = None
    pass_fds: tuple[int, ...] = ()
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = STOP_SECONDS
    orphan_signal: signal.Signals = signal.SIGTERM
    phase: int = 0  # lower phases stop first: gateways and workers before the servers that they use


class Keeper:
    """One service and the process that runs it now."""

    def __init__(self, service: Service, log: Path, report: Callable[[str], None]) -> None:
        self.service = service
        self.log = log
        self.process: Process | None = None
        self.deaths = 0
        self._report = report

    async def keep(self, changed: Callable[[], None]) -> None:
        """Start the service again and again until cancelled."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            began = time.monotonic()
            end = await self._run_once(changed)
            self.deaths += 1
            if time.monotonic() - began >= HEALTHY_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            self._report(f"{self.service.name} ended ({end}); it starts again in {pause:g} s")
            await asyncio.sleep(pause)
            pause = min(pause * 2, MAX_PAUSE_SECONDS)

    async def _run_once(self, changed: Callable[[], None]) -> str:
        """Start the process and wait for its end. Return how it ended; raise only if it never started yet."""
        try:
            self.process = await self._start()
        except OSError as error:
            if self.process is None:
                raise
            return str(error)  # a full disk, say: it may pass
        changed()
        code = await self.process.wait()
        kill_group(self.process.pid)
        return describe_exit(code)

    async def _start(self) -> Process:
        service = self.service
        if service.prepare is not None:
            service.prepare()
        with self.log.open("ab") as output:
            return await asyncio.create_subprocess_exec(
                *service.command,
                stdin=DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=service.pass_fds,
                cwd=service.folder,
                env={**os.environ, **service.environment},
                **popen_options(orphan_signal=service.orphan_signal, user=service.user),
            )

    async def wait_until_ready(self) -> None:
        """Return when the service answers. Raises ServiceFailed when it keeps dying or takes too long."""
        deadline = time.monotonic() + READY_SECONDS
        probe = self.service.is_ready
        while not (self.process and (probe is None or probe())):
            if self.deaths >= START_ATTEMPTS or time.monotonic() > deadline:
                raise ServiceFailed(f"{self.service.name} did not start. The end of {self.log}:\n{read_tail(self.log)}")
            await asyncio.sleep(POLL_SECONDS)

    async def end(self) -> None:
        """Ask the process to stop, then kill it and whatever is left of its group."""
        process = self.process
        if process is None:
            return
        for number, patience in ((self.service.stop_signal, self.service.stop_seconds), (signal.SIGKILL, KILL_SECONDS)):
            if process.returncode is not None:
                break
            process.send_signal(number)
            try:
                async with asyncio.timeout(patience):
                    await process.wait()
            except TimeoutError:
                self._report(f"{self.service.name} did not stop within {patience:g} s of {number.name}")
        kill_group(process.pid)


class Supervisor:
    """The services of one instance."""

    def __init__(self, logs: Path, *, report: Callable[[str], None], changed: Callable[[dict[str, int]], None]) -> None:
        self._logs = logs
        self._report = report
        self._changed = changed  # called with the process id of each service after every start
        self._keepers: list[Keeper] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, *services: Service) -> None:
        """Keep these services running from now on; return when all are ready. Raises ServiceFailed."""
        fresh = [Keeper(service, self._log(service.name), self._report) for service in services]
        for keeper in fresh:
            self._keepers.append(keeper)
            self._tasks.append(asyncio.create_task(keeper.keep(self._announce), name=keeper.service.name))
        if len(self._tasks) == len(fresh):
            self._tasks.append(asyncio.create_task(self._bound_logs(), name="logs"))
        for keeper in fresh:
            await self._or_failure(keeper.wait_until_ready())

    async def run(self, name: str, command: Sequence[str], *, environment: Mapping[str, str], limit: float) -> str:
        """Run a command to its end and return its output. Raises ServiceFailed, also after limit seconds."""
        log = self._log(name)
        with log.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **environment},
                **popen_options(orphan_signal=signal.SIGKILL),
            )
        try:
            async with asyncio.timeout(limit):
                output, _ = await process.communicate()
        except TimeoutError:
            raise ServiceFailed(f"{name} took longer than {limit:g} s; see {log}") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode != 0:
            raise ServiceFailed(f"{name} failed. The end of {log}:\n{read_tail(log)}")
        return output.decode("utf-8", "replace")

    async def watch(self) -> None:
        """Wait for a failure of the supervisor itself, such as a program that is missing, and raise it."""
        await self._or_failure(asyncio.Event().wait())

    async def stop(self) -> None:
        """End every process, gateways and workers before the servers that they use; returns within 5 s."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for phase in sorted({keeper.service.phase for keeper in self._keepers}):
            await asyncio.gather(*(k.end() for k in self._keepers if k.service.phase == phase))

    async def _or_failure(self, work: Coroutine[Any, Any, object]) -> None:
        """Await work, but raise at once what a keeper's task raises: it would fail silently otherwise."""
        job = asyncio.create_task(work)
        try:
            await asyncio.wait({job, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
            for task in self._tasks:
                if task.done():
                    task.result()
            await job
        finally:
            job.cancel()

    async def _bound_logs(self) -> None:
        while True:
            for keeper in self._keepers:
                rotate_log(keeper.log)
            await asyncio.sleep(LOG_CHECK_SECONDS)

    def _log(self, name: str) -> Path:
        path = self._logs / f"{name}.log"
        rotate_log(path)
        return path

    def _announce(self) -> None:
        self._changed({k.service.name: k.process.pid for k in self._keepers if k.process is not None})


def kill_group(leader: int) -> None:
    """Kill the children that an ended process left behind in its session."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        pass


def describe_exit(code: int) -> str:
    """Return how a process ended, as text for people."""
    return f"exit {code}" if code >= 0 else signal.Signals(-code).name


def use_pidfd() -> None:
    """Let asyncio wait for children without threads; from Python 3.12 on it does so by itself."""
    if sys.version_info < (3, 12) and sys.platform == "linux":
        asyncio.set_child_watcher(asyncio.PidfdChildWatcher())
