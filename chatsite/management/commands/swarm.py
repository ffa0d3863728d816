"""`manage.py swarm`: how much a server carries, and whether every message reaches every member once, in order."""

from __future__ import annotations

import json
import os
import re
import resource
import secrets
import select
import shutil
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError
from django.utils import timezone

from chatsite.swarm import killing, plot
from chatsite.swarm.conductor import Conductor, SwarmFailed
from chatsite.swarm.display import Display
from chatsite.swarm.plan import LOOPBACK, MEMBERS_PER_PROCESS, Plan, Protocol, Review
from chatsite.up.instance import read_json
from chatsite.up.launch import raise_descriptor_limit
from integrations.access import keys
from integrations.models import AtDeadline, When
from integrations.rules import rules
from rooms.access.capabilities import Capability
from rooms.errors import ChatError
from rooms.protocol.wire import Format

LEAST_SIZE = 64  # room for the marks by which a message is recognised
MOST_SIZE = 60_000
MOST_BATCH = 200
MOST_PROCESSES = 200  # and as many source addresses
SPARE_DESCRIPTORS = 200  # of each process, for anything but members
MIDDLE = -1.0


class Command(BaseCommand):
    """Parses, makes a key where none is given, shows progress and the report."""

    help = "Put members into rooms, publish, and report speed, losses and cost. Ends with 1 if anything failed."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare what a run is made of."""
        whole, positive, share = number(int, 0), number(float, 0.001), number(float, 0)
        some = number(int, 1)
        parser.add_argument("--url", default=settings.PUBLIC_URL, help="of the server (default: %(default)s)")
        parser.add_argument("--key", help="appId.keyId:secret; default: one made for this run on the instance at DATA")
        parser.add_argument(
            "--room", default="swarm", help="with several: the part before :1, :2 (default: %(default)s)"
        )
        parser.add_argument("--rooms", type=some, default=1, metavar="N", help="spread members and publishers over N")
        parser.add_argument("--members", type=whole, default=1000, metavar="N", help="0: publish only")
        parser.add_argument("--rate", type=positive, default=100, metavar="N", help="messages a second, in all")
        parser.add_argument("--publishers", type=whole, default=10, metavar="N", help="connections that publish")
        parser.add_argument("--batch", type=some, default=1, metavar="N", help="messages in each publish")
        parser.add_argument("--seconds", type=positive, default=10, metavar="S", help="how long to publish")
        parser.add_argument("--size", type=int, default=130, metavar="BYTES", help="of each message's data")
        parser.add_argument(
            "--churn", type=share, default=0, metavar="P", help="percent of members that leave a second"
        )
        parser.add_argument(
            "--kill-gateway",
            type=positive,
            nargs="?",
            const=MIDDLE,
            metavar="S",
            help="kill -9 one gateway of the instance at DATA, S seconds into publishing (default: in the middle)",
        )
        parser.add_argument(
            "--review",
            choices=[each.value for each in Review],
            help="let a Lambda of the swarm's own check each message before it is published (docs/load.md)",
        )
        parser.add_argument("--review-ms", type=share, default=0, metavar="MS", help="that this Lambda takes")
        parser.add_argument(
            "--review-port", type=whole, default=9310, metavar="N", help="that it listens on (default: %(default)s)"
        )
        parser.add_argument(
            "--review-down", type=span, metavar="S..S", help="the Lambda is down from S to S seconds of publishing"
        )
        parser.add_argument(
            "--at-deadline",
            choices=AtDeadline.values,
            default=AtDeadline.RETRY.value,
            help="the policy of the rule that is made for --review (default: %(default)s)",
        )
        parser.add_argument(
            "--kill-worker",
            type=positive,
            nargs="?",
            const=MIDDLE,
            metavar="S",
            help="kill -9 one worker of the instance at DATA, S seconds into publishing (default: in the middle)",
        )
        parser.add_argument("--slow-readers", type=whole, default=0, metavar="N", help="of the members")
        parser.add_argument("--slow-rate", type=some, default=1024, metavar="BYTES", help="that they read a second")
        parser.add_argument(
            "--processes", type=some, default=max(1, (os.cpu_count() or 2) // 2), metavar="N", help="more if need be"
        )
        parser.add_argument(
            "--nap-ms",
            type=share,
            default=0,
            metavar="MS",
            help="rest after each look at the sockets: less CPU where swarm and server share a machine, more latency",
        )
        parser.add_argument("--format", choices=[each.value for each in Format], default=Format.JSON.value)
        parser.add_argument(
            "--protocol",
            choices=[each.value for each in Protocol],
            default=Protocol.CHAT.value,
            help="nchan: drive nginx with nchan instead, to compare (docs/load.md)",
        )
        parser.add_argument("--pids", help="processes of the server to measure, comma-separated; default: its gateways")
        parser.add_argument("--connect-seconds", type=positive, default=60, metavar="S", help="for connecting")
        parser.add_argument(
            "--settle-seconds", type=positive, default=10, metavar="S", help="patience for the last message"
        )
        parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw latency over time")
        parser.add_argument("--json", action="store_true", help="print the report as one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run once. Raises CommandError, and SystemExit 1 after a report that is not good."""
        if not hasattr(select, "epoll"):
            raise CommandError("The swarm needs Linux (epoll). It may run on another machine than the server: --url.")
        raise_descriptor_limit()
        plan = plan_of(options)
        if not options["json"]:
            self.announce(plan)
        width = shutil.get_terminal_size().columns if sys.stderr.isatty() else None
        display = Display(plan, sys.stderr, width=width)
        rule = make_rule(plan, options["at_deadline"]) if plan.review is not None else None
        conductor = Conductor(
            plan,
            pids_of(options["pids"], with_workers=plan.review is not None),
            (lambda _: None) if options["json"] else display.show,
            data=settings.DATA if is_local(plan.url) else None,
        )
        try:
            report = conductor.run()
        except SwarmFailed as error:
            raise CommandError(str(error)) from None
        except KeyboardInterrupt:
            raise CommandError("Stopped before there was a report.") from None
        finally:
            if rule is not None:
                remove_rule(rule)
            if options["key"] is None and plan.key:
                revoke_key(plan.key)
        display.clear()
        if options["plot"] is not None:
            write_plot(options["plot"], plot.draw(report))
        self.stdout.write(json.dumps(report.as_dict()) if options["json"] else "\n".join(report.lines()))
        if not report.ok:
            raise SystemExit(1)

    def announce(self, plan: Plan) -> None:
        """Say what will be done where it is more than was asked for."""
        needed = len(plan.shares())
        if needed > plan.processes:
            self.stderr.write(
                f"{needed} processes hold the members, {plan.members_per_process} each at most: a process here may "
                f"open {resource.getrlimit(resource.RLIMIT_NOFILE)[0]} descriptors."
            )


def plan_of(options: dict[str, Any]) -> Plan:
    """Return the plan of a command line. Raises CommandError with what is wrong with it and what to do."""
    check(options)
    protocol = Protocol(options["protocol"])
    chosen = {name: options[name] for name in Plan.__dataclass_fields__ if name in options}
    chosen |= {"format": Format(options["format"]), "protocol": protocol, "run": secrets.token_hex(4)}
    if protocol is Protocol.NCHAN:
        chosen |= {"key": "", "publishers": min(options["publishers"], options["rooms"])}
    elif options["key"] is None:
        chosen["key"] = make_key(options["room"], options["rooms"])
    moment = options["kill_gateway"]
    chosen["kill_after"] = options["seconds"] / 2 if moment == MIDDLE else moment
    moment = options["kill_worker"]
    chosen["kill_worker_after"] = options["seconds"] / 2 if moment == MIDDLE else moment
    chosen["review"] = Review(options["review"]) if options["review"] else None
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    chosen["members_per_process"] = max(1, min(MEMBERS_PER_PROCESS, descriptors - SPARE_DESCRIPTORS))
    plan = Plan(**chosen)
    if len(plan.shares()) > MOST_PROCESSES:
        raise CommandError(
            f"{plan.members} members need {len(plan.shares())} processes: one may open {descriptors} descriptors here. "
            "Raise the limit (ulimit -n 20000), or run parts of the swarm on several machines."
        )
    return plan


def check(options: dict[str, Any]) -> None:
    """Raise CommandError for options that do not go together."""
    scheme = urlsplit(options["url"]).scheme
    if scheme not in ("http", "https", "ws", "wss"):
        raise CommandError(f"--url is an address such as http://127.0.0.1:8000, not {options['url']!r}.")
    if not LEAST_SIZE <= options["size"] <= MOST_SIZE:
        raise CommandError(f"--size must be {LEAST_SIZE} to {MOST_SIZE}.")
    if options["batch"] > MOST_BATCH:
        raise CommandError(f"--batch must be 1 to {MOST_BATCH}.")
    if not options["members"] and not options["publishers"]:
        raise CommandError("Without members and without publishers there is nothing to do.")
    if options["slow_readers"] > options["members"]:
        raise CommandError("--slow-readers are some of the --members: there cannot be more of them.")
    if options["protocol"] == Protocol.NCHAN.value:
        unknown = [name for name in ("churn", "kill_gateway", "slow_readers") if options[name]]
        if unknown or options["batch"] > 1:
            raise CommandError("With --protocol nchan there is no --churn, --kill-gateway, --slow-readers or --batch.")
    if options["kill_gateway"] is not None:
        check_kill(options)
    if options["review"] and not is_local(options["url"]):
        raise CommandError("--review makes a rule on the instance at DATA: run the swarm beside it (manage.py --data).")
    if options["kill_worker"] is not None and not killing.workers_of(settings.DATA):
        raise CommandError(f"--kill-worker kills a worker of the instance at DATA ({settings.DATA}), but none runs.")


def check_kill(options: dict[str, Any]) -> None:
    """Raise CommandError where there is no gateway that may be killed."""
    if options["kill_gateway"] >= options["seconds"]:
        raise CommandError("--kill-gateway S must be less than --seconds: it happens while messages are published.")
    if not is_local(options["url"]) or not killing.gateways_of(settings.DATA):
        raise CommandError(
            f"--kill-gateway kills a gateway of the instance at DATA ({settings.DATA}), but none that serves "
            f"{options['url']} runs there. Run the swarm beside the instance: manage.py --data DIR swarm ..."
        )


def is_local(url: str) -> bool:
    """Tell whether an address is that of the instance at DATA."""
    parts = urlsplit(url)
    port = read_json(settings.DATA / "instance.json").get("port")
    return port is not None and parts.hostname in LOOPBACK and parts.port == port


def make_key(room: str, rooms: int) -> str:
    """Return a new key for these rooms on the instance at DATA. Raises CommandError."""
    if not (settings.DATA / "instance.json").exists():
        raise CommandError("Name a key: --key appId.keyId:secret (no instance runs at DATA to make one on).")
    pattern = room if rooms == 1 else f"{room}:*"
    try:
        return keys.create(Capability.parse({pattern: ["publish", "subscribe", "history"]}), label="swarm").text
    except DatabaseError as error:
        raise CommandError(f"No key could be made on the instance at DATA ({type(error).__name__}).") from None


def make_rule(plan: Plan, at_deadline: str) -> str:
    """Make the rule that asks the swarm's own Lambda, and return its name. Raises CommandError."""
    pattern = f"^{re.escape(plan.room)}$" if plan.rooms == 1 else f"^{re.escape(plan.room)}:"
    wanted = rules.Wanted(
        name=f"swarm {plan.run}",
        url=f"http://127.0.0.1:{plan.review_port}/",
        room_filter=pattern,
        when=When.BEFORE,
        batched=plan.review is Review.BATCHED,
        at_deadline=at_deadline,
    )
    try:
        return rules.add(wanted, now=timezone.now())[0].name
    except ChatError as error:
        hint = f"Start the instance with WEBHOOK_ALLOW_PRIVATE=127.0.0.1:{plan.review_port}."
        raise CommandError(f"{error.message} {hint}") from None
    except DatabaseError as error:
        raise CommandError(f"No rule could be made on the instance at DATA ({type(error).__name__}).") from None


def remove_rule(name: str) -> None:
    """Remove the rule of one run. Where that fails it stays, and concerns nothing but the run's rooms."""
    with suppress(DatabaseError, ChatError):
        rules.remove(name, now=timezone.now())


def revoke_key(key: str) -> None:
    """End a key that was made for one run. Where that fails it stays, and opens nothing but the run's rooms."""
    with suppress(DatabaseError, ChatError):
        keys.revoke(key.partition(":")[0], timezone.now())


def pids_of(option: str | None, *, with_workers: bool) -> list[int]:
    """Return the processes to measure: those named, else gateways (and workers) of the instance at DATA."""
    if option is not None:
        return [int(pid) for pid in option.split(",") if pid.strip()]
    workers = killing.workers_of(settings.DATA).values() if with_workers else []
    return [*killing.gateways_of(settings.DATA).values(), *workers]


def write_plot(path: Path, text: str) -> None:
    """Write the plot. Raises CommandError."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"The plot could not be written to {path}: {error.strerror}.") from None


def span(text: str) -> tuple[float, float]:
    """Return two moments that are written as 5..65."""
    first, dots, last = text.partition("..")
    try:
        found = float(first), float(last)
    except ValueError:
        dots = ""
    if not dots or not 0 <= found[0] < found[1]:
        raise ArgumentTypeError(f"must be two moments in seconds such as 5..65, not {text!r}")
    return found


def number(kind: type[int] | type[float], least: float) -> Callable[[str], float]:
    """Return an argparse type for numbers that are not less than `least`."""

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            raise ArgumentTypeError(f"must be a number, not {text!r}") from None
        if not least <= value < float("inf"):
            raise ArgumentTypeError(f"must be {'more than 0' if least else 'at least 0'}, not {text}")
        return value

    return parse
