"""kill -9 of a gateway of the instance on this machine, in the middle of a run."""

from __future__ import annotations

import os
import random
import signal
from dataclasses import dataclass
from pathlib import Path

import psutil

from chatsite.instance import read_json


@dataclass(frozen=True, kw_only=True)
class Kill:
    """A gateway that was killed, and when, in monotonic seconds."""

    gateway: str
    at: float


def gateways_of(data: Path) -> dict[str, int]:
    """Return the process ids of the gateways of the instance at DATA, by name; none where no instance runs."""
    processes: dict[str, int] = read_json(data / "instance.json").get("processes", {})
    return {name: pid for name, pid in processes.items() if name.startswith("gateway") and is_gateway(pid)}


def is_gateway(pid: int) -> bool:
    """Tell whether a process is a gateway: the file that names it may be older than the process of that id."""
    try:
        return "gateway" in psutil.Process(pid).cmdline()
    except psutil.Error:
        return False


def kill_one(data: Path, now: float) -> Kill | None:
    """Kill a gateway; None where there is none to kill."""
    gateways = gateways_of(data)
    if not gateways:
        return None
    name = random.choice(sorted(gateways))
    os.kill(gateways[name], signal.SIGKILL)
    return Kill(gateway=name, at=now)
