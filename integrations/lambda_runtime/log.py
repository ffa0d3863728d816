"""Log lines in the form of AWS's ("Lambda log format"): START, END, REPORT, and what went wrong.

Nothing here ever sees a body, a header or a query string.
"""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

Write = Callable[[str], object]


class Level(IntEnum):
    """How much is said; each says what those before it say, but REQUESTS has its own lines instead of AWS's."""

    NONE = 0
    ERRORS = 1  # what went wrong, and what was put in its way
    REQUESTS = 2  # and a line for each request
    AWS = 3  # and START, END and REPORT


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The figures of one invocation."""

    request_id: str
    seconds: float
    memory_mb: int
    peak_bytes: int
    init_seconds: float | None = None
    error_type: str = ""

    def line(self) -> str:
        """Return the REPORT line."""
        milliseconds = self.seconds * 1000
        parts = [
            f"REPORT RequestId: {self.request_id}",
            f"Duration: {milliseconds:.2f} ms",
            f"Billed Duration: {math.ceil(milliseconds + (self.init_seconds or 0) * 1000)} ms",
            f"Memory Size: {self.memory_mb} MB",
            f"Max Memory Used: {math.ceil(self.peak_bytes / 2**20)} MB",
        ]
        if self.init_seconds is not None:
            parts.append(f"Init Duration: {self.init_seconds * 1000:.2f} ms")
        if self.error_type:
            status = "timeout" if self.error_type == "Sandbox.Timedout" else "error"
            parts += [f"Status: {status}", f"Error Type: {self.error_type}"]
        return "\t".join(parts)


class Log:
    """Writes lines to standard error, or by `write`; that nobody reads them any more is no error."""

    def __init__(self, write: Write | None = None, *, level: Level = Level.AWS) -> None:
        self._write = write or sys.stderr.write
        self.level = level

    def say(self, *lines: str, level: Level = Level.ERRORS) -> None:
        """Write whole lines in one piece, so that lines of other processes do not come between."""
        if level > self.level or not lines:
            return
        with contextlib.suppress(OSError):
            self._write("".join(f"{line}\n" for line in lines))

    def start(self, request_id: str) -> None:
        """Log that a runtime has taken an invocation."""
        self.say(f"START RequestId: {request_id} Version: $LATEST", level=Level.AWS)

    def end(self, report: Report, line: str = "") -> None:
        """Log that an invocation is over; `line` says what went wrong, if anything did."""
        if self.level is Level.AWS:
            self.say(*filter(None, (line, f"END RequestId: {report.request_id}", report.line())))
        elif line:
            self.say(line)

    def init_failed(self, seconds: float, error_type: str) -> None:
        """Log that an environment never became ready."""
        status = "timeout" if error_type == "Sandbox.Timedout" else "error"
        duration = f"{seconds * 1000:.2f} ms"
        self.say(f"INIT_REPORT Init Duration: {duration}\tPhase: init\tStatus: {status}\tError Type: {error_type}")

    def injected(self, request_id: str, fault: str) -> None:
        """Log that a call met a fault on purpose. Ours: AWS has no such line."""
        self.say(f"INJECTED RequestId: {request_id} Fault: {fault}")
