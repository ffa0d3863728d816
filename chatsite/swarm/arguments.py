"""The command line of `manage.py swarm`: its options, their limits, and the plan that they make."""

from __future__ import annotations

import resource
import secrets
from argparse import ArgumentParser
from dataclasses import fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

from chatsite.swarm.plan import MEMBERS_PER_PROCESS, MIDDLE, Plan, Protocol, SwarmFailed
from chatsite.swarm.server.instance import is_local, processes_of
from integrations.models import AtDeadline

SIZES = range(64, 60_001)  # the least has room for the marks by which a message is recognised
MOST_BATCH = 200
MOST_PROCESSES = 200  # and as many source addresses
SPARE_DESCRIPTORS = 200  # of each process, for anything but members


def declare(parser: ArgumentParser) -> None:
    """Declare the options of a run: the fields of the plan, and four of the command itself."""
    add, policy = parser.add_argument, "the policy of the rule that is made for --review (default: %(default)s)"
    for each in fields(Plan):
        if each.metadata:
            default = settings.PUBLIC_URL if each.name == "url" else each.default
            add(f"--{each.name.replace('_', '-')}", default=default, **each.metadata)
    add("--at-deadline", choices=AtDeadline.values, default=AtDeadline.RETRY.value, help=policy)
    add("--pids", help="processes of the server to measure, comma-separated; default: its gateways")
    add("--plot", type=Path, metavar="FILE.svg", help="draw latency over time")
    add("--json", action="store_true", help="print the report as one JSON object")


def plan_of(options: dict[str, Any]) -> Plan:
    """Return the plan of a command line. Raises SwarmFailed with what is wrong with it and what to do."""
    check(options)
    chosen = {each.name: options[each.name] for each in fields(Plan) if each.metadata}
    chosen["run"] = secrets.token_hex(4)
    for kill in ("kill_gateway", "kill_worker"):
        chosen[kill] = chosen["seconds"] / 2 if chosen[kill] == MIDDLE else chosen[kill]
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
