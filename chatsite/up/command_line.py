"""The command line of `manage.py up`. It loads no Django, as the started processes do: a start is twice as fast."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

from chatsite.up.embedded import EmbeddedError
from chatsite.up.instance import AlreadyRunning, Instance
from chatsite.up.launch import Launch, Plan, PortTaken
from chatsite.up.supervisor import ServiceFailed, use_pidfd

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
MAX_PROCESSES = 64
HELP = "Start Postgres, Valkey, gateways, workers and the demo's Lambda, and keep them running."


class UpFailed(Exception):
    """The instance cannot run; the text says why and what to do."""


def add_options(parser: ArgumentParser) -> None:
    """Declare the options. `--data` is taken by manage.py before, and stands here for the help."""
    port = number_between(0, 65535)
    parser.add_argument("--port", type=port, default=os.environ.get("PORT", "8000"), help="of the web server [8000]")
    parser.add_argument("--data", metavar="DIR", help="folder of this instance [.data]")
    gateways = min(count_cores(), MAX_PROCESSES)
    parser.add_argument(
        "--gateways", type=number_between(1, MAX_PROCESSES), default=gateways, metavar="N", help="[one a core]"
    )
    parser.add_argument("--workers", type=number_between(0, MAX_PROCESSES), default=1, metavar="N", help="[1]")
    parser.add_argument("--json", action="store_true", help="print one JSON object when ready")


def count_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def main(arguments: Sequence[str]) -> int:
    """Run `up` and return the exit code."""
    parser = ArgumentParser(prog="manage.py up", description=HELP)
    add_options(parser)
    try:
        run(vars(parser.parse_args(arguments)))
    except UpFailed as error:
        print(f"up: {error}", file=sys.stderr)
        return 1
    return 0


def run(options: dict[str, Any]) -> None:
    """Run an instance until a signal asks to stop. Raises UpFailed."""
    use_pidfd()
    instance = Instance(Path(os.environ.get("DATA", ".data")).resolve())
    plan = Plan(port=options["port"], gateways=options["gateways"], workers=options["workers"])
    try:
        instance.claim()
        asyncio.run(serve(Launch(instance, plan, report), as_json=options["json"]))
    except (AlreadyRunning, PortTaken, EmbeddedError, ServiceFailed, OSError) as error:
        raise UpFailed(str(error)) from error


async def serve(launch: Launch, *, as_json: bool) -> None:
    """Run until a signal asks to stop, or something fails that cannot be started again."""
    asked = asyncio.Event()
    for number in STOP_SIGNALS:
        if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
            continue  # started by nohup: it shall outlive the terminal
        asyncio.get_running_loop().add_signal_handler(number, asked.set)
    working = asyncio.create_task(start_and_watch(launch, as_json=as_json))
    waiting = asyncio.create_task(asked.wait())
    try:
        await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
        report("Stopping ...")
    finally:
        waiting.cancel()
        working.cancel()
        await asyncio.gather(working, waiting, return_exceptions=True)
        await launch.stop()


async def start_and_watch(launch: Launch, *, as_json: bool) -> None:
    """Start the instance, say that it is ready, and go on until a keeper fails."""
    url = await launch.start()
    say(json.dumps({"ready": url, **launch.demo}) if as_json else welcome(url, launch), sys.stdout)
    await launch.supervisor.watch()


def report(line: str) -> None:
    """Print a line of progress to stderr."""
    say(line, sys.stderr)


def say(text: str, stream: TextIO) -> None:
    """Print. A terminal that went away must not stop the server."""
    try:
        print(text, file=stream, flush=True)
    except OSError:
        pass


def welcome(url: str, launch: Launch) -> str:
    """Return the ready line and what to try next."""
    demo = launch.demo
    data = launch.instance.data
    password = demo["admin"]["password"] or "the password you chose"
    manage = f".venv/bin/python manage.py --data {display(data)}"
    return "\n".join(
        [
            f"ready: {url}",
            "",
            f"  Chat     open {url}rooms/{demo['room']} in two windows and write: {demo['try']}",
            f"  Admin    {url}admin/    {demo['admin']['name']} / {password}",
            f"  API key  {demo['key'] or '(revoked; make your own)'}",
            "",
            "  Your own key, and a webhook for every message (to a public address):",
            f'    {manage} apikey create --capability \'{{"*":["*"]}}\'',
            f"    {manage} rule add --name mine --event channel.message --filter '^lobby$' \\",
            "      --when after --url https://example.com/hook",
            "",
            f"  Logs in {display(data / 'logs')}. Stop: Ctrl-C. The next start finds everything as it was.",
        ]
    )


def display(path: Path) -> str:
    """Return a path as short as it can be typed from here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def number_between(minimum: int, maximum: int) -> Callable[[str], int]:
    """Return an argparse type for whole numbers in this range."""

    def number(text: str) -> int:
        if not text.isdecimal() or not minimum <= int(text) <= maximum:
            raise ArgumentTypeError(f"must be a number from {minimum} to {maximum}, not {text!r}")
        return int(text)

    return number
