"""`manage.py up`: one command from an empty folder to a running chat server."""

from __future__ import annotations

import asyncio
import json
import signal
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from chatsite.embedded import EmbeddedError
from chatsite.instance import AlreadyRunning, Instance
from chatsite.launch import Launch, Plan, PortTaken
from chatsite.supervisor import ServiceFailed, use_pidfd

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
MAX_PROCESSES = 64


class Command(BaseCommand):
    help = "Start Postgres, Valkey, gateways, workers and the demo's Lambda, and keep them running."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=number_between(0, 65535), default=settings.PORT, help="of the web server")
        parser.add_argument("--gateways", type=number_between(1, MAX_PROCESSES), default=1, metavar="N")
        parser.add_argument("--workers", type=number_between(0, MAX_PROCESSES), default=1, metavar="N")
        parser.add_argument("--json", action="store_true", help="print one JSON object when ready")
        parser.epilog = "--data DIR (default .data) is the folder of this instance."

    def handle(self, *args: Any, **options: Any) -> None:
        use_pidfd()
        instance = Instance(Path(settings.DATA))
        plan = Plan(port=options["port"], gateways=options["gateways"], workers=options["workers"])
        try:
            instance.claim()
            asyncio.run(self.serve(Launch(instance, plan, self.report), as_json=options["json"]))
        except (AlreadyRunning, PortTaken, EmbeddedError, ServiceFailed) as error:
            raise CommandError(str(error)) from error

    async def serve(self, launch: Launch, *, as_json: bool) -> None:
        """Run until a signal asks to stop, or the start fails."""
        asked = asyncio.Event()
        for number in STOP_SIGNALS:
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue  # started by nohup: it shall outlive the terminal
            asyncio.get_running_loop().add_signal_handler(number, asked.set)
        working = asyncio.create_task(self.start_and_watch(launch, as_json=as_json))
        waiting = asyncio.create_task(asked.wait())
        try:
            await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
            self.report("Stopping ...")
        finally:
            waiting.cancel()
            working.cancel()
            await asyncio.gather(working, waiting, return_exceptions=True)
            await launch.stop()

    async def start_and_watch(self, launch: Launch, *, as_json: bool) -> None:
        url = await launch.start()
        self.say(json.dumps({"ready": url, **launch.demo}) if as_json else welcome(url, launch))
        await launch.supervisor.watch()

    def report(self, line: str) -> None:
        """Tell progress beside the output proper; a terminal that went away must not stop the server."""
        try:
            self.stderr.write(line)
            self.stderr.flush()
        except OSError:
            pass

    def say(self, text: str) -> None:
        try:
            self.stdout.write(text)
            self.stdout.flush()
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


def number_between(minimum: int, maximum: int) -> Any:
    """Return an argparse type for whole numbers in this range."""

    def number(text: str) -> int:
        value = int(text)
        if not minimum <= value <= maximum:
            raise ValueError
        return value

    number.__name__ = f"number from {minimum} to {maximum}"
    return number
