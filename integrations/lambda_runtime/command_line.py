"""The command line of `manage.py lambda`, and of `python -m integrations.lambda_runtime`, without Django."""

from __future__ import annotations

import argparse
import asyncio
import errno
import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from integrations.lambda_runtime import limits
from integrations.lambda_runtime.execution.faults import Dice, FaultError, Faults, parse_latency
from integrations.lambda_runtime.execution.function import Function, FunctionError, Runtime
from integrations.lambda_runtime.log import Level, Log
from integrations.lambda_runtime.server import Options, serve

Print = Callable[[str], object]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options; the defaults are AWS's where AWS has one."""
    parser.add_argument("file", metavar="HANDLER", type=Path, help="a .py, .mjs, .cjs or .js file")
    parser.add_argument("--handler", default="handler", metavar="NAME", help="the function in the file [handler]")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at [127.0.0.1]")
    parser.add_argument("--port", type=int, default=9100, help="port to listen at, 0 for a free one [9100]")
    parser.add_argument(
        "--timeout", type=float, default=limits.DEFAULT_TIMEOUT_SECONDS, metavar="SECONDS", help="per call [3]"
    )
    parser.add_argument(
        "--concurrency", type=int, default=limits.DEFAULT_CONCURRENCY, metavar="N", help="calls at once [10]"
    )
    parser.add_argument("--memory", type=int, default=limits.MIN_MEMORY_MB, metavar="MB", help="per environment [128]")
    parser.add_argument(
        "--env", action="append", default=[], metavar="K=V", help="a variable of the function; K alone: ours"
    )
    parser.add_argument(
        "--qualifier", action="append", default=[], metavar="NAME", help="a version or alias that callers may name"
    )
    parser.add_argument(
        "--log",
        choices=[level.name.lower() for level in Level],
        default=Level.AWS.name.lower(),
        help="what is logged: nothing, errors, a line for each request, or AWS's lines [aws]",
    )
    parser.add_argument(
        "--no-reload", dest="reload", action="store_false", help="go on with the file as it was at the start"
    )
    parser.add_argument("--json", action="store_true", help="print the ready line as JSON")
    _add_fault_options(parser.add_argument_group("faults on purpose"))


def _add_fault_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--latency", default="0", metavar="MS[..MS]", help="before each call, evenly spread over the range [0]"
    )
    for fault, result in (
        ("error", "fail without running (502)"),
        ("timeout", "run into --timeout (502)"),
        ("throttle", "be refused at once (429)"),
    ):
        group.add_argument(
            f"--{fault}-rate",
            type=float,
            default=0.0,
            metavar="SHARE",
            help=f"so many calls, from 0 to 1, {result} [0]",
        )
    group.add_argument("--seed", type=int, metavar="N", help="the same faults at each start")
    group.add_argument("--control", action="store_true", help="read and change the faults at /_lambda/faults")


def run(options: dict[str, Any], *, print_line: Print) -> None:
    """Serve until SIGTERM or Ctrl-C. Raises FunctionError or FaultError for impossible options, OSError."""
    function = build_function(options)
    concurrency: int = options["concurrency"]
    if not 1 <= concurrency <= limits.MAX_CONCURRENCY:
        raise FunctionError(f"--concurrency: from 1 to {limits.MAX_CONCURRENCY}")

    def announce(url: str) -> None:
        ready = {"url": url, "handler": str(function.path), "pid": os.getpid()}
        print_line(json.dumps(ready) if options["json"] else f"ready: {url}  serves {function.path.name}")

    try:
        asyncio.run(
            serve(
                function,
                host=options["host"],
                port=options["port"],
                announce=announce,
                lines=Log(level=Level[options["log"].upper()]),
                options=Options(
                    concurrency=concurrency,
                    reload=options["reload"],
                    control=options["control"],
                    qualifiers=options["qualifier"],
                ),
                dice=Dice(build_faults(options), seed=options["seed"]),
            )
        )
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise FunctionError(
            f"port {options['port']} is taken: choose another with --port, or 0 for a free one"
        ) from None


def build_function(options: dict[str, Any]) -> Function:
    """Return the function that the options describe. Raises FunctionError."""
    path: Path = options["file"].resolve()
    if not path.is_file():
        raise FunctionError(f"there is no file {options['file']}")
    return Function(
        path=path,
        runtime=Runtime.of(path),
        handler=options["handler"],
        timeout_seconds=options["timeout"],
        memory_mb=options["memory"],
        environment=dict(_variables(options["env"])),
    )


def build_faults(options: dict[str, Any]) -> Faults:
    """Return the faults that the options describe. Raises FaultError."""
    return Faults(
        latency_ms=parse_latency(options["latency"]),
        error_rate=options["error_rate"],
        timeout_rate=options["timeout_rate"],
        throttle_rate=options["throttle_rate"],
    )


def main() -> int:
    """Run the command line without Django, and return its exit status."""
    parser = argparse.ArgumentParser(prog="lambda", description="Serve a Lambda handler at a Function URL.")
    add_options(parser)
    try:
        run(vars(parser.parse_args()), print_line=lambda line: print(line, flush=True))
    except (FunctionError, FaultError, OSError) as error:
        print(f"lambda: {error}", file=sys.stderr)
        return 1
    return 0


def _variables(pairs: Iterable[str]) -> Iterable[tuple[str, str]]:
    for pair in pairs:
        name, has_value, value = pair.partition("=")
        if not name:
            raise FunctionError(f"--env {pair}: write NAME=VALUE, or NAME to pass ours on")
        if has_value or name in os.environ:
            yield name, value if has_value else os.environ[name]
