"""The command line of `manage.py swarm`: its options, their limits, and the plan that they make."""

from __future__ import annotations

import os
import resource
import secrets
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

from chatsite.swarm.plan import MEMBERS_PER_PROCESS, Plan, Protocol, Review, SwarmFailed
from chatsite.swarm.server.instance import is_local, processes_of
from integrations.models import AtDeadline
from rooms.protocol.wire import Format

SIZES = range(64, 60_001)  # the least has room for the marks by which a message is recognised
MOST_BATCH = 200
MOST_PROCESSES = 200  # and as many source addresses
SPARE_DESCRIPTORS = 200  # of each process, for anything but members
MIDDLE = -1.0


def declare(parser: ArgumentParser) -> None:
    """Declare the options of a run."""
    add = parser.add_argument
    whole, some, share, positive = number(int, 0), number(int, 1), number(float, 0), number(float, 0.001)
    processes = max(1, (os.cpu_count() or 2) // 2)
    add("--url", default=settings.PUBLIC_URL, help="of the server (default: %(default)s)")
    add("--key", help="appId.keyId:secret; default: one made for this run on the instance at DATA")
    add("--room", default="swarm", help="with several: the part before :1, :2 (default: %(default)s)")
    add("--rooms", type=some, default=1, metavar="N", help="spread members and publishers over N")
    add("--members", type=whole, default=1000, metavar="N", help="0: publish only")
    add("--rate", type=positive, default=100, metavar="N", help="messages a second, in all")
    add("--publishers", type=whole, default=10, metavar="N", help="connections that publish")
    add("--batch", type=some, default=1, metavar="N", help="messages in each publish")
    add("--seconds", type=positive, default=10, metavar="S", help="how long to publish")
    add("--size", type=int, default=130, metavar="BYTES", help="of each message's data")
    add("--churn", type=share, default=0, metavar="P", help="percent of members that leave a second")
    for name in ("gateway", "worker"):
        when = "S seconds into publishing (default: in the middle)"
        text = f"kill -9 one {name} of the instance at DATA, {when}"
        add(f"--kill-{name}", type=positive, nargs="?", const=MIDDLE, metavar="S", help=text)
    text = "let a Lambda of the swarm's own check each message before it is published (docs/load.md)"
    add("--review", type=Review, choices=list(Review), help=text)
    add("--review-ms", type=share, default=0, metavar="MS", help="that this Lambda takes")
    add("--review-port", type=whole, default=9310, metavar="N", help="that it listens on (default: %(default)s)")
    add("--review-down", type=span, metavar="S..S", help="the Lambda is down from S to S seconds of publishing")
    text = "the policy of the rule that is made for --review (default: %(default)s)"
    add("--at-deadline", choices=AtDeadline.values, default=AtDeadline.RETRY.value, help=text)
    add("--slow-readers", type=whole, default=0, metavar="N", help="of the members")
    add("--slow-rate", type=some, default=1024, metavar="BYTES", help="that they read a second")
    add("--processes", type=some, default=processes, metavar="N", help="more if need be")
    text = "rest after each look at the sockets: less CPU where swarm and server share a machine, more latency"
    add("--nap-ms", type=share, default=0, metavar="MS", help=text)
    add("--format", type=Format, choices=list(Format), default=Format.JSON)
    text = "nchan: drive nginx with nchan instead, to compare (docs/load.md)"
    add("--protocol", type=Protocol, choices=list(Protocol), default=Protocol.CHAT, help=text)
    add("--pids", help="processes of the server to measure, comma-separated; default: its gateways")
    add("--connect-seconds", type=positive, default=60, metavar="S", help="for connecting")
    add("--settle-seconds", type=positive, default=10, metavar="S", help="patience for the last message")
    add("--plot", type=Path, metavar="FILE.svg", help="draw latency over time")
    add("--json", action="store_true", help="print the report as one JSON object")


def plan_of(options: dict[str, Any]) -> Plan:
    """Return the plan of a command line. Raises SwarmFailed with what is wrong with it and what to do."""
    check(options)
    chosen = {name: options[name] for name in Plan.__dataclass_fields__ if name in options}
    chosen |= {"key": options["key"] or "", "run": secrets.token_hex(4)}
    for name, after in (("kill_gateway", "kill_after"), ("kill_worker", "kill_worker_after")):
        chosen[after] = options["seconds"] / 2 if options[name] == MIDDLE else options[name]
    if options["protocol"] is Protocol.NCHAN:
        chosen |= {"key": "", "publishers": min(options["publishers"], options["rooms"])}
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    chosen["members_per_process"] = max(1, min(MEMBERS_PER_PROCESS, descriptors - SPARE_DESCRIPTORS))
    plan = Plan(**chosen)
    if len(plan.member_shares()) > MOST_PROCESSES:
        raise SwarmFailed(
            f"{plan.members} members need {len(plan.member_shares())} processes: one may open {descriptors} "
            "descriptors here. Raise the limit (ulimit -n 20000), or run parts of the swarm on several machines."
        )
    return plan


def check(options: dict[str, Any]) -> None:
    """Raise SwarmFailed for options that do not go together, or that need an instance where none runs."""
    url, data = options["url"], settings.DATA
    if urlsplit(url).scheme not in ("http", "https", "ws", "wss"):
        raise SwarmFailed(f"--url is an address such as http://127.0.0.1:8000, not {url!r}.")
    if options["size"] not in SIZES:
        raise SwarmFailed(f"--size must be {SIZES[0]} to {SIZES[-1]}.")
    if options["batch"] > MOST_BATCH:
        raise SwarmFailed(f"--batch must be 1 to {MOST_BATCH}.")
    if not options["members"] and not options["publishers"]:
        raise SwarmFailed("Without members and without publishers there is nothing to do.")
    if options["slow_readers"] > options["members"]:
        raise SwarmFailed("--slow-readers are some of the --members: there cannot be more of them.")
    unknown_to_nchan = [name for name in ("churn", "kill_gateway", "slow_readers") if options[name]]
    if options["protocol"] is Protocol.NCHAN and (unknown_to_nchan or options["batch"] > 1):
        raise SwarmFailed("With --protocol nchan there is no --churn, --kill-gateway, --slow-readers or --batch.")
    kill = options["kill_gateway"]
    if kill is not None and kill >= options["seconds"]:
        raise SwarmFailed("--kill-gateway S must be less than --seconds: it happens while messages are published.")
    if kill is not None and not (is_local(url, data) and processes_of(data, "gateway")):
        raise SwarmFailed(
            f"--kill-gateway kills a gateway of the instance at DATA ({data}), but none that serves {url} runs there. "
            "Run the swarm beside the instance: manage.py --data DIR swarm ..."
        )
    if options["review"] and not is_local(url, data):
        raise SwarmFailed("--review makes a rule on the instance at DATA: run the swarm beside it (manage.py --data).")
    if options["kill_worker"] is not None and not processes_of(data, "worker"):
        raise SwarmFailed(f"--kill-worker kills a worker of the instance at DATA ({data}), but none runs.")


def pids_of(option: str | None, *, with_workers: bool) -> list[int]:
    """Return the processes to measure: those named, else gateways (and workers) of the instance at DATA."""
    if option is not None:
        return [int(pid) for pid in option.split(",") if pid.strip()]
    commands = ("gateway", "worker") if with_workers else ("gateway",)
    return [pid for command in commands for pid in processes_of(settings.DATA, command).values()]


def span(text: str) -> tuple[float, float]:
    """Return two moments that are written as 5..65."""
    first, _, last = text.partition("..")
    try:
        begin, end = float(first), float(last)
        if 0 <= begin < end:
            return begin, end
    except ValueError:
        pass
    raise ArgumentTypeError(f"must be two moments in seconds such as 5..65, not {text!r}")


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
