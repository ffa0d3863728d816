"""One call of the function, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum


class ErrorType(StrEnum):
    """The errors that Lambda itself reports ("Lambda runtime API" and the REPORT line's Error Type)."""

    EXITED = "Runtime.ExitError"  # the process ended while it had an invocation, or before it asked for one
    TIMED_OUT = "Sandbox.Timedout"  # the function, or its init, took longer than it may
    OUT_OF_MEMORY = "Runtime.OutOfMemory"  # the process grew above the function's memory
    TOO_LARGE = "Function.ResponseSizeTooLarge"  # the answer is above the payload quota
    UNKNOWN = "Runtime.Unknown"  # the runtime reported an error and gave it no type
    INJECTED = "Injected.Error"  # `--error-rate` said so: ours, AWS knows no such type


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """A call of the function."""

    request_id: str
    trace_id: str
    event: bytes
    qualifier: str = ""  # the version or alias that the caller named


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


def timed_out(request_id: str, seconds: float) -> Failed:
    """Return the end of an invocation that took longer than it may."""
    message = f"Task timed out after {seconds:.2f} seconds"
    now = datetime.now(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")
    line = f"{now}Z {request_id} {message}"
    return Failed(error_type=ErrorType.TIMED_OUT, message=message, line=line, fatal=True)


def ended(request_id: str, message: str, error_type: str) -> Failed:
    """Return the end of an invocation whose process ended under it; without `message` the log has it already."""
    line = f"RequestId: {request_id} Error: {message}\n{error_type}" if message else ""
    return Failed(error_type=error_type, message=message, line=line, fatal=True)


def too_large(request_id: str, limit: int) -> Failed:
    """Return the end of an invocation whose answer has more bytes than an answer may have."""
    message = f"Exceeded maximum allowed payload size ({limit} bytes)."
    line = f"RequestId: {request_id} Error: {message}\n{ErrorType.TOO_LARGE}"
    return Failed(error_type=ErrorType.TOO_LARGE, message=message, line=line)
