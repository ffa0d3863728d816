"""kill -9 of a gateway or a worker of the instance on this machine, in the middle of a run."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from chatsite.up.instance import read_json


@dataclass(frozen=True, kw_only=True)
class Kill:
    """A process that was killed, and when, in monotonic seconds."""

    name: str
    at: float


def gateways_of(data: Path) -> dict[str, int]:
    """Return the process ids of the gateways of the instance at DATA, by name; none where no instance runs."""
    return processes_of(data, "gateway")


def workers_of(data: Path) -> dict[str, int]:
    """Return the process ids of the workers of the instance at DATA, by name."""
    return processes_of(data, "worker")


def processes_of(data: Path, command: str) -> dict[str, int]:
    """Return the processes of an instance that run a command of manage.py, by name."""
    processes: dict[str, int] = read_json(data / "instance.json").get("processes", {})
    return {name: pid for name, pid in processes.items() if name.startswith(command) and runs(command, pid)}


def runs(command: str, pid: int) -> bool:
    """Tell whether a process runs a command: the file that names it may be older than the process of that id."""
    try:
        return command in psutil.Process(pid).cmdline()
    except psutil.Error:
        return False


def kill_one(processes: Mapping[str, int], now: float) -> Kill | None:
    """Kill one of these processes; None where there is none to kill."""
    if not processes:
        return None
    name = random.choice(sorted(processes))
    os.kill(processes[name], signal.SIGKILL)
    return Kill(name=name, at=now)
