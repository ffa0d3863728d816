"""One call of the function and how it ended: plain values."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from enum import StrEnum

from integrations.lambda_runtime import log
from integrations.lambda_runtime.execution.faults import NO_FATE, Fate


class ErrorType(StrEnum):
    """The errors that Lambda itself reports ("Lambda runtime API" and the REPORT line's Error Type)."""

    EXITED = "Runtime.ExitError"  # the process ended while it had an invocation, or before it asked for one
    TIMED_OUT = "Sandbox.Timedout"  # the function, or its init, took longer than it may
    OUT_OF_MEMORY = "Runtime.OutOfMemory"  # the process grew above the function's memory
    TOO_LARGE = "Function.ResponseSizeTooLarge"  # the answer is above the payload quota
    UNKNOWN = "Runtime.Unknown"  # the runtime reported an error and gave it no type
    INJECTED = "Injected.Error"  # `--error-rate` said so: ours, AWS knows no such type


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """The function returned; `payload` is what the runtime sent, not looked at yet."""

    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The function failed. `fatal`: its environment cannot be used again."""

    error_type: str
    message: str = ""  # what happened, in AWS's words; empty where the runtime has said it itself
    line: str = ""  # what AWS writes to the log about it; empty where the runtime has written it itself
    payload: bytes = b""  # the runtime's own account, as JSON: what a caller of the Invoke API gets
    fatal: bool = False


Outcome = Returned | Failed


class Undelivered(Exception):
    """The environment died before it took the invocation: another one may serve it."""


@dataclass(slots=True, kw_only=True, eq=False)
class Invocation:
    """A call on its way through one environment. Times are the event loop's, in seconds."""

    request_id: str
    trace_id: str
    event: bytes
    qualifier: str = ""  # the version or alias that the caller named
    fate: Fate = NO_FATE
    delivered_at: float | None = None  # when the runtime took it: its time runs from here
    init_seconds: float | None = None  # set when this call had to wait for a cold start
    outcome: asyncio.Future[Outcome] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def settle(self, outcome: Outcome) -> bool:
        """Set how it ended; False if it had ended already (a late answer after a timeout)."""
        if self.outcome.done():
            return False
        self.outcome.set_result(outcome)
        return True

    def give_back(self) -> None:
        """Its environment is gone and has not run it."""
        if not self.outcome.done():
            self.outcome.set_exception(Undelivered())


def timed_out(request_id: str, seconds: float) -> Failed:
    """The end of an invocation that took longer than it may."""
    message, line = f"Task timed out after {seconds:.2f} seconds", log.timed_out(request_id, seconds)
    return Failed(error_type=ErrorType.TIMED_OUT.value, message=message, line=line, fatal=True)


def ended(request_id: str, message: str, error_type: str) -> Failed:
    """The end of an invocation whose process ended under it; without `message` the log has it already."""
    line = log.exited(request_id, message, error_type) if message else ""
    return Failed(error_type=str(error_type), message=message, line=line, fatal=True)
