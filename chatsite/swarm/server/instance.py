"""The instance on this machine beside a swarm: its processes, and the key and the rule made on it for a run."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from django.db import DatabaseError
from django.utils import timezone

from chatsite.swarm.plan import LOOPBACK, Plan, Review, SwarmFailed
from chatsite.swarm.results.tally import Kill
from chatsite.up.instance import read_json
from integrations.access import keys
from integrations.models import When
from integrations.rules import rules
from rooms.access.capabilities import Capability
from rooms.errors import ChatError


def is_local(url: str, data: Path) -> bool:
    """Return whether an address is that of the instance at DATA."""
    parts = urlsplit(url)
    port = read_json(data / "instance.json").get("port")
    return port is not None and parts.hostname in LOOPBACK and parts.port == port


# --- Processes --------------------------------------------------------------------------------------------


def processes_of(data: Path, command: str) -> dict[str, int]:
    """Return the process ids of the gateways or workers of the instance at DATA, by name; none where none runs."""
    processes: dict[str, int] = read_json(data / "instance.json").get("processes", {})
    return {name: pid for name, pid in processes.items() if name.startswith(command) and _runs(command, pid)}


def kill_one(data: Path, command: str) -> Kill | None:
    """Kill one of the gateways or workers of the instance at DATA; None where there is none to kill."""
    processes = processes_of(data, command)
    if not processes:
        return None
    name = random.choice(sorted(processes))
    os.kill(processes[name], signal.SIGKILL)
    return Kill(name=name, at=time.monotonic())


def _runs(command: str, pid: int) -> bool:
    """Return whether a process runs a command: the file that names it may be older than the process of that id."""
    try:
        return command in psutil.Process(pid).cmdline()
    except psutil.Error:
        return False


# --- Database ---------------------------------------------------------------------------------------------


@contextmanager
def with_key(plan: Plan, data: Path) -> Iterator[Plan]:
    """Give a plan a new key for its rooms, for as long as it is carried out. Raises SwarmFailed.

    Where the key cannot be revoked in the end it stays, and opens nothing but the run's rooms.
    """
    if not (data / "instance.json").exists():
        raise SwarmFailed("Name a key: --key appId.keyId:secret (no instance runs at DATA to make one on).")
    pattern = plan.room if plan.rooms == 1 else f"{plan.room}:*"
    try:
        key = keys.create(Capability.parse({pattern: ["publish", "subscribe", "history"]}), label="swarm").text
    except DatabaseError as error:
        raise SwarmFailed(f"No key could be made on the instance at DATA ({type(error).__name__}).") from error
    try:
        yield replace(plan, key=key)
    finally:
        with suppress(DatabaseError, ChatError):
            keys.revoke(key.partition(":")[0], timezone.now())


@contextmanager
def with_rule(plan: Plan, at_deadline: str) -> Iterator[None]:
    """Let the instance ask the swarm's own Lambda about the messages of a plan while it is carried out.

    Raises SwarmFailed. Where the rule cannot be removed in the end it stays, and concerns nothing but the run's rooms.
    """
    spec = rules.RuleSpec(
        name=f"swarm {plan.run}",
        url=f"http://127.0.0.1:{plan.review_port}/",
        room_filter=f"^{re.escape(plan.room)}$" if plan.rooms == 1 else f"^{re.escape(plan.room)}:",
        when=When.BEFORE,
        batched=plan.review is Review.BATCHED,
        at_deadline=at_deadline,
    )
    try:
        name = rules.add(spec, now=timezone.now())[0].name
    except ChatError as error:
        hint = f"Start the instance with WEBHOOK_ALLOW_PRIVATE=127.0.0.1:{plan.review_port}."
        raise SwarmFailed(f"{error.message} {hint}") from error
    except DatabaseError as error:
        raise SwarmFailed(f"No rule could be made on the instance at DATA ({type(error).__name__}).") from error
    try:
        yield
    finally:
        with suppress(DatabaseError, ChatError):
            rules.remove(name, now=timezone.now())
