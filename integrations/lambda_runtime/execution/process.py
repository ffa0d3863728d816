"""A handler's process: started in a group of its own, tied to our life, measured and killed as a whole."""

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
        """Start it. Raises OSError when the program is missing or no process can be had."""
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
        """Its id, and its group's."""
        return self._process.pid

    async def wait(self) -> int:
        """Its exit status; negative for the number of the signal that ended it."""
        status = await self._process.wait()
        self.kill()  # what it started may outlive it, and shares its group
        self._gone = True
        return status

    def kill(self) -> None:
        """Kill it and whatever it has started; nothing once it is gone, since its number may be another's then."""
        if self._gone:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def resident_bytes(self) -> int:
        """Return the memory that it holds now; 0 where the system does not say."""
        if self._measured is None or self._gone:
            return 0
        try:
            resident = int(self._measured.memory_info().rss)
        except psutil.Error:
            return 0
        self.peak_bytes = max(self.peak_bytes, resident)
        return resident


def describe_exit(status: int) -> str:
    """An exit status in the words of AWS's log."""
    if status < 0:
        return f"Runtime exited with error: signal: {_signal_name(-status)}"
    if status == 0:
        return "Runtime exited without providing a reason"
    return f"Runtime exited with error: exit status {status}"


def _signal_name(number: int) -> str:
    try:
        return signal.strsignal(number) or str(number)
    except ValueError:
        return str(number)


def _dying_with(parent: int) -> Callable[[], None]:
    """What a child does before exec, so that even kill -9 of us ends it."""

    def tie() -> None:
        assert LIBC is not None
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # we died before the line above
            os.kill(os.getpid(), signal.SIGKILL)

    return tie
