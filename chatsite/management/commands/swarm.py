"""`manage.py swarm`: how much a server carries, and whether every message reaches every member once, in order."""

from __future__ import annotations

import json
import os
import secrets
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from chatsite.instance import read_json
from chatsite.launch import raise_descriptor_limit
from chatsite.swarm.conductor import Conductor, SwarmFailed
from chatsite.swarm.plan import Plan
from chatsite.swarm.processes import Progress
from integrations import keys
from rooms.capabilities import Capability
from rooms.wire import Format

LEAST_SIZE = 64  # room for the marks by which a message is recognised
MOST_SIZE = 60_000


class Command(BaseCommand):
    """Parses, makes a key where none is given, shows progress and the report."""

    help = "Put members into a room, publish, and report speed, losses and cost. Ends with 1 if anything failed."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare what a run is made of."""
        parser.add_argument("--url", default=settings.PUBLIC_URL, help="of the server (default: %(default)s)")
        parser.add_argument("--key", help="appId.keyId:secret; default: one made for this run on the instance at DATA")
        parser.add_argument("--room", default="swarm", help="(default: %(default)s)")
        parser.add_argument("--members", type=int, default=1000, metavar="N")
        parser.add_argument("--rate", type=float, default=100, metavar="N", help="messages a second, of all publishers")
        parser.add_argument("--publishers", type=int, default=10, metavar="N")
        parser.add_argument("--seconds", type=float, default=10, metavar="S", help="how long to publish")
        parser.add_argument("--size", type=int, default=130, metavar="BYTES", help="of each message's data")
        parser.add_argument("--processes", type=int, default=max(1, (os.cpu_count() or 2) // 2), metavar="N")
        parser.add_argument("--format", choices=[each.value for each in Format], default=Format.JSON.value)
        parser.add_argument("--pids", help="processes of the server to measure, comma-separated; default: its gateways")
        parser.add_argument("--connect-seconds", type=float, default=60, metavar="S", help="for connecting")
        parser.add_argument(
            "--settle-seconds", type=float, default=10, metavar="S", help="patience for the last message"
        )
        parser.add_argument("--json", action="store_true", help="print the report as one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run once. Raises CommandError, and SystemExit 1 after a report that is not good."""
        raise_descriptor_limit()
        plan = plan_of(options, options["key"] or make_key(options["room"]))
        show = self.show if sys.stderr.isatty() and not options["json"] else lambda *_: None
        try:
            report = Conductor(plan, pids_of(options["pids"]), show).run()
        except SwarmFailed as error:
            raise CommandError(str(error)) from None
        except KeyboardInterrupt:
            raise CommandError("Stopped before there was a report.") from None
        if show == self.show:
            self.stderr.write("\r\033[K", ending="")
        self.stdout.write(json.dumps(report.as_dict()) if options["json"] else "\n".join(report.lines()))
        if not report.ok:
            raise SystemExit(1)

    def show(self, phase: str, crowds: Sequence[Progress], office: Progress) -> None:
        """Write one line that is written over again and again."""
        attached, delivered = sum(crowd.ready for crowd in crowds), sum(crowd.delivered for crowd in crowds)
        line = f"{phase}: {attached} attached · {office.published} published · {office.acknowledged} acknowledged"
        self.stderr.write(f"\r\033[K{line} · {delivered} delivered", ending="")
        self.stderr.flush()


def plan_of(options: dict[str, Any], key: str) -> Plan:
    """Return the plan of a command line. Raises CommandError with what is wrong with it."""
    if urlsplit(options["url"]).scheme != "http":
        raise CommandError("The swarm speaks to http:// addresses only: aim at a gateway itself, behind its proxy.")
    for name in ("members", "publishers", "processes", "rate", "seconds"):
        if options[name] <= 0:
            raise CommandError(f"--{name} must be more than 0.")
    if not LEAST_SIZE <= options["size"] <= MOST_SIZE:
        raise CommandError(f"--size must be {LEAST_SIZE} to {MOST_SIZE}.")
    names = Plan.__dataclass_fields__.keys() - {"key", "run", "format"}
    return Plan(
        key=key,
        run=secrets.token_hex(4),
        format=Format(options["format"]),
        **{name: options[name] for name in names},
    )


def make_key(room: str) -> str:
    """Return a new key for this room on the instance at DATA. Raises CommandError."""
    if not (settings.DATA / "instance.json").exists():
        raise CommandError("Name a key: --key appId.keyId:secret (no instance runs at DATA to make one on).")
    try:
        return keys.create(Capability.parse({room: ["publish", "subscribe"]}), label="swarm").text
    except DatabaseError as error:
        raise CommandError(f"No key could be made on the instance at DATA ({type(error).__name__}).") from None


def pids_of(option: str | None) -> list[int]:
    """Return the processes to measure: those named, else the gateways of the instance at DATA."""
    if option is not None:
        return [int(pid) for pid in option.split(",") if pid.strip()]
    processes: dict[str, int] = read_json(settings.DATA / "instance.json").get("processes", {})
    return [pid for name, pid in processes.items() if name.startswith("gateway")]
