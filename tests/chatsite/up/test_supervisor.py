"""The supervisor with small processes of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from chatsite.up import launch
from chatsite.up import supervisor as module
from chatsite.up.processes import read_tail, rotate_log
from chatsite.up.supervisor import Service, ServiceFailed, Supervisor, use_pidfd
from tests.patience import PATIENCE

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"


NOTE = (
    "import signal, sys, time; signal.signal(15, lambda *_: (print(time.monotonic()), sys.exit()));"
    "print('up', flush=True); time.sleep(600)"
)


def says_up(log: Path) -> bool:
    return "up" in read_tail(log)


class Cast:
    """A supervisor and what it told."""

    def __init__(self, logs: Path) -> None:
        self.told: list[str] = []
        self.pids: dict[str, int] = {}
        self.supervisor = Supervisor(logs, report=self.told.append, changed=self.pids.update)


@pytest.fixture
def cast(tmp_path: Path) -> Cast:
    return Cast(tmp_path)


@pytest.fixture(autouse=True, scope="module")
def _without_threads() -> Iterator[None]:
    """As `up` does it, and undone: left behind, no later test could start a process from its loop."""
    use_pidfd()
    yield
    if sys.version_info < (3, 12):
        asyncio.set_child_watcher(None)


async def until(condition: object) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.01)


async def test_a_service_that_dies_starts_again(cast: Cast) -> None:
    await cast.supervisor.start(Service(name="sleeper", command=SLEEPER))
    await until(lambda: "sleeper" in cast.pids)
    first = cast.pids["sleeper"]
    os.kill(first, signal.SIGKILL)
    await until(lambda: cast.pids["sleeper"] != first)
    await cast.supervisor.stop()
    assert "sleeper ended (SIGKILL)" in cast.told[0]


async def test_a_service_that_keeps_dying_fails_the_start_with_the_end_of_its_log(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 0.01)
    broken = [sys.executable, "-c", "raise SystemExit('no such bolt')"]
    with pytest.raises(ServiceFailed, match="no such bolt"):
        await cast.supervisor.start(Service(name="broken", command=broken, is_ready=lambda: False))
    await cast.supervisor.stop()


async def test_a_program_that_is_missing_fails_the_start_at_once(cast: Cast) -> None:
    with pytest.raises(FileNotFoundError):
        await cast.supervisor.start(Service(name="missing", command=["/nonexistent"], is_ready=lambda: False))
    await cast.supervisor.stop()


async def test_a_process_that_ignores_sigterm_is_killed_in_time(cast: Cast, tmp_path: Path) -> None:
    log = tmp_path / "deaf.log"
    deaf = Service(name="deaf", command=[sys.executable, "-c", DEAF], is_ready=partial(says_up, log))
    await cast.supervisor.start(deaf)
    async with asyncio.timeout(PATIENCE):
        await cast.supervisor.stop()
    assert cast.told == [f"deaf did not stop within {module.STOP_SECONDS:g} s of SIGTERM"]
    assert not psutil.pid_exists(cast.pids["deaf"])


def test_all_of_up_stops_within_five_seconds() -> None:
    """Stated by what it waits for: how long the rest takes is the machine's."""
    users = module.STOP_SECONDS + module.KILL_SECONDS
    servers = launch.SERVER_STOP_SECONDS + module.KILL_SECONDS
    assert users + servers + launch.SWEEP_SECONDS < 5


async def test_children_of_a_killed_process_end_with_it(cast: Cast, tmp_path: Path) -> None:
    parent = "import subprocess, sys; p = subprocess.Popen(['sleep', '600']); print(p.pid, flush=True); p.wait()"
    log = tmp_path / "parent.log"
    service = Service(name="parent", command=[sys.executable, "-c", parent], is_ready=lambda: bool(read_tail(log)))
    await cast.supervisor.start(service)
    child = int(read_tail(log))
    os.kill(cast.pids["parent"], signal.SIGKILL)
    await until(lambda: not psutil.pid_exists(child))
    await cast.supervisor.stop()


async def test_users_stop_before_what_they_use(cast: Cast, tmp_path: Path) -> None:
    services = [
        Service(
            name=name,
            command=[sys.executable, "-c", NOTE],
            phase=phase,
            is_ready=partial(says_up, tmp_path / f"{name}.log"),
        )
        for name, phase in (("server", 1), ("user", 0))
    ]
    await cast.supervisor.start(*services)
    await cast.supervisor.stop()
    ended = {s.name: float(read_tail(tmp_path / f"{s.name}.log", lines=1)) for s in services}
    assert ended["user"] < ended["server"]


async def test_a_command_that_takes_too_long_is_ended(cast: Cast) -> None:
    with pytest.raises(ServiceFailed, match="longer"):
        await cast.supervisor.run("slow", SLEEPER, environment={}, limit=0.2)


def test_a_log_is_bounded_while_its_writer_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    with path.open("ab") as writer:
        writer.write(b"a" * 900)
        writer.flush()
        rotate_log(path, limit=500)
        writer.write(b"later")
    assert path.read_bytes() == b"later"
    assert (tmp_path / "x.log.1").stat().st_size == 500
