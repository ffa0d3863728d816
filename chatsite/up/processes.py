"""Starts child processes so that they never outlive their owner, and ends those of an earlier run."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

# Every child carries the folder of its instance here, so that a later `up` can tell leftovers from strangers.
MARKER = "CHATSITE_OWNED_BY"
LOG_MAX_BYTES = 10_000_000  # per child, twice: the current file and the one before it

_PR_SET_PDEATHSIG = 1
# Loaded before any fork: a child between fork and exec must not take locks.
_prctl = ctypes.CDLL(None, use_errno=True).prctl if sys.platform == "linux" else None


def popen_options(*, orphan_signal: int, user: str | None = None) -> dict[str, Any]:
    """Return arguments for Popen: a session of its own, another user when root, and a signal when we die.

    The kernel (Linux) sends `orphan_signal` even after kill -9 of us; elsewhere the next `up` ends them.
    The new session keeps Ctrl-C of the terminal away from the child: its owner decides the order of stopping.
    """
    owner = os.getpid()

    def die_with_owner() -> None:
        if _prctl is not None:
            _prctl(_PR_SET_PDEATHSIG, orphan_signal)
            if os.getppid() != owner:  # it died before the line above
                os.kill(os.getpid(), signal.SIGKILL)

    options: dict[str, Any] = {"start_new_session": True, "preexec_fn": die_with_owner}
    if user is not None:
        # Popen changes the user before it calls preexec_fn; changing it after prctl would clear the signal.
        options |= {"user": user, "group": user, "extra_groups": []}
    return options


def find_leftovers(data: Path, *, named: str | None = None) -> Iterator[psutil.Process]:
    """Yield the processes of an earlier instance in this folder, whose owner did not stop them."""
    homes = {str(data / "postgres"), str(data / "valkey")}
    for process in psutil.process_iter():
        try:
            # Postgres writes its title over its environment, but its processes work in its folder.
            if named is not None and process.name() != named:
                continue
            if process.cwd() in homes or process.environ().get(MARKER) == str(data):
                yield process
        except (psutil.Error, OSError):
            continue  # it just ended, or belongs to another user


def stop_leftovers(data: Path, *, patience_seconds: float) -> int:
    """End the processes of an earlier instance in this folder and return how many there were."""
    found = [process for process in find_leftovers(data) if process.pid != os.getpid()]
    end_processes(found, patience_seconds=patience_seconds)
    return len(found)


def end_processes(processes: list[psutil.Process], *, patience_seconds: float) -> None:
    """Interrupt these processes, and kill those that are left after a while."""
    # SIGINT is a quick and clean stop for Postgres, Valkey and Python alike.
    for number, patience in ((signal.SIGINT, patience_seconds), (signal.SIGKILL, 1.0)):
        for process in processes:
            try:
                process.send_signal(number)
            except psutil.NoSuchProcess:
                pass
        deadline = time.monotonic() + patience
        while processes := [process for process in processes if is_alive(process)]:
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)


def is_alive(process: psutil.Process) -> bool:
    """Return whether a process can still do something: in containers ended ones may stay for ever, uncollected."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def rotate_log(path: Path, *, limit: int = LOG_MAX_BYTES) -> None:
    """Keep at most `limit` bytes in a log and as much in `<name>.1`; a child that has it open appends on."""
    try:
        if path.stat().st_size <= limit:
            return
        # Copied and cut, not renamed: the child holds the file itself open (for appending).
        with path.open("rb") as source, path.with_suffix(path.suffix + ".1").open("wb") as target:
            target.write(source.read(limit))
        os.truncate(path, 0)
    except FileNotFoundError:
        pass


def read_tail(path: Path, *, lines: int = 12) -> str:
    """Return the last lines of a log, for an error message."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 8192))
            return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""
