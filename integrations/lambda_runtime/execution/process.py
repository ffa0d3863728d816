"""A handler's process: it has a process group of its own, is killed with it, and dies when we do."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

PR_SET_PDEATHSIG = 1
# Loaded here because nothing may be imported between fork and exec.
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class HandlerProcess:
    """One child process. Its output goes to our standard error, as a function's goes to its log."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.peak_bytes = 0
        self._gone = False
        self._measured: psutil.Process | None = None
        with contextlib.suppress(psutil.NoSuchProcess):  # it may have ended at once
            self._measured = psutil.Process(process.pid)

    @classmethod
    async def start(cls, command: Sequence[str], *, directory: Path, variables: Mapping[str, str]) -> HandlerProcess:
        """Start a process. Raises OSError when the program is missing or no process can be had."""
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=directory,
            env=dict(variables),
            stdin=subprocess.DEVNULL,
            stdout=sys.__stderr__,
            stderr=sys.__stderr__,
            start_new_session=True,
            preexec_fn=_dying_with(os.getpid()) if LIBC is not None else None,
        )
        return cls(process)

    @property
    def pid(self) -> int:
        """The id of the process and of its group."""
        return self._process.pid

    async def wait(self) -> int:
        """Wait for the end and return the exit status; negative for the number of the signal that ended it."""
        status = await self._process.wait()
        self.kill()  # what it started may outlive it, and shares its group
        self._gone = True
        return status

    def kill(self) -> None:
        """Kill the process and what it has started. Once it is gone nothing is done: its id may be another's then."""
        if self._gone:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def resident_bytes(self) -> int:
        """Return the memory that the process holds now; 0 where the system does not say."""
        if self._measured is None or self._gone:
            return 0
        try:
            resident = int(self._measured.memory_info().rss)
        except psutil.Error:
            return 0
        self.peak_bytes = max(self.peak_bytes, resident)
        return resident


def describe_exit(status: int) -> str:
    """Return an exit status in the words of AWS's log."""
    if status < 0:
        return f"Runtime exited with error: signal: {signal.strsignal(-status) or -status}"
    if status == 0:
        return "Runtime exited without providing a reason"
    return f"Runtime exited with error: exit status {status}"


def _dying_with(parent: int) -> Callable[[], None]:
    """Return what a child does before exec, so that even kill -9 of us ends it."""

    def tie() -> None:
        assert LIBC is not None
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # we died before the line above
            os.kill(os.getpid(), signal.SIGKILL)

    return tie
