"""The control path: the faults of a running function, read and changed from this machine (`--control`).

    GET  /_lambda/faults
    POST /_lambda/faults   {"latency": "20..200", "errorRate": 0.1, "timeoutRate": 0, "throttleRate": 0, "seed": 1}

What a POST leaves out stays as it is; `{"errorRate": 1}` is an outage, and `{"errorRate": 0}` its end.
"""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import msgspec

from integrations.lambda_runtime.execution.faults import Dice, Fault, FaultError, parse_latency
from integrations.lambda_runtime.http_message import HttpRequest, HttpResponse

PREFIX = "/_lambda/"
PATH = "/_lambda/faults"


class Wanted(msgspec.Struct, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """The body of a POST."""

    latency: str | float | None = None
    error_rate: float | None = None
    timeout_rate: float | None = None
    throttle_rate: float | None = None
    seed: int | None = None


class Control:
    """Shows and changes the faults of one function's dice."""

    def __init__(self, dice: Dice) -> None:
        self._dice = dice

    @staticmethod
    def serves(request: HttpRequest) -> bool:
        """Tell whether a request is for the control path."""
        return request.path.startswith(PREFIX)

    def handle(self, request: HttpRequest) -> HttpResponse:
        """Show the faults, or change them first."""
        if not _is_local(request):
            return _answer(403, {"error": "the control path is for programs on this machine"})
        if request.path != PATH or request.method not in ("GET", "POST"):
            return _answer(404, {"error": f"there is GET and POST {PATH}"})
        if request.method == "POST":
            try:
                self._change(msgspec.json.decode(request.body, type=Wanted))
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, FaultError) as error:
                return _answer(400, {"error": str(error)})
        return _answer(200, self._shape())

    def _change(self, wanted: Wanted) -> None:
        named = {
            "error_rate": wanted.error_rate,
            "timeout_rate": wanted.timeout_rate,
            "throttle_rate": wanted.throttle_rate,
            "latency_ms": None if wanted.latency is None else parse_latency(str(wanted.latency)),
        }
        changes: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
        self._dice.faults = replace(self._dice.faults, **changes)
        if wanted.seed is not None:
            self._dice.reseed(wanted.seed)

    def _shape(self) -> dict[str, Any]:
        faults = self._dice.faults
        return {
            "latency": "..".join(f"{value:g}" for value in faults.latency_ms),
            "errorRate": faults.error_rate,
            "timeoutRate": faults.timeout_rate,
            "throttleRate": faults.throttle_rate,
            "calls": self._dice.rolls,
            "met": {fault.value: self._dice.met[fault] for fault in Fault},
        }


def _is_local(request: HttpRequest) -> bool:
    """Tell whether a program on this machine asks, rather than a web page: those send Origin, or another Host."""
    try:
        is_local = ipaddress.ip_address(request.source_ip).is_loopback
        host = urlsplit(f"//{request.header('host')}").hostname or ""
    except ValueError:
        return False
    return is_local and not request.header("origin") and host in ("127.0.0.1", "localhost", "::1")


def _answer(status: int, body: dict[str, Any]) -> HttpResponse:
    headers = (("content-type", "application/json"),)
    return HttpResponse(status=status, headers=headers, body=msgspec.json.encode(body) + b"\n")
