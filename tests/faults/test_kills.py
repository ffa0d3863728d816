"""Each process is killed in the middle of moderated traffic, and nobody loses a message."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import redis

from chatsite.up.demo import ROOM
from tests.faults import traffic
from tests.instance import Instance
from tests.patience import PATIENCE

AFTER_MESSAGES = 60
GATEWAYS = ("gateway-1", "gateway-2")
ALL = ("valkey", *GATEWAYS, "worker-1", "postgres", "lambda")
HANG_SECONDS = 3


@pytest.mark.parametrize("name", ["gateway-1", "worker-1", "lambda", "valkey", "postgres"])
def test_whatever_is_killed_each_acknowledged_message_is_published_once_in_its_authors_order(
    victim: Instance, victim_key: str, name: str
) -> None:
    report = traffic.run(victim, victim_key, room=ROOM, after=AFTER_MESSAGES, meanwhile=lambda: victim.kill(name))
    traffic.check(report)


@pytest.mark.skipif("SLOW" not in os.environ, reason="takes half a minute; SLOW=1 runs it")
@pytest.mark.parametrize("names", [("gateway-1",), ("worker-1",), ("valkey",), ALL * 2], ids=" ".join)
def test_what_hangs_for_a_while_or_dies_again_and_again_loses_nothing(
    victim: Instance, victim_key: str, names: tuple[str, ...]
) -> None:
    def hurt() -> None:
        for name in names:
            if len(names) > 1:
                victim.kill(name)
            else:
                hang(victim.pids()[name])

    traffic.check(traffic.run(victim, victim_key, room=ROOM, seconds=8, after=AFTER_MESSAGES, meanwhile=hurt))


def hang(pid: int) -> None:
    """Stop a process and let it go on after a while."""
    os.kill(pid, signal.SIGSTOP)
    time.sleep(HANG_SECONDS)
    os.kill(pid, signal.SIGCONT)


def test_an_emptied_valkey_costs_nothing(victim: Instance, victim_key: str) -> None:
    def empty() -> None:
        with redis.Redis.from_url(victim.facts["redis_url"]) as client:
            client.flushall()
            client.client_kill_filter(_type="pubsub")

    traffic.check(traffic.run(victim, victim_key, after=AFTER_MESSAGES, meanwhile=empty))


def test_members_on_the_official_sdk_end_with_the_whole_log_when_all_gateways_are_killed(
    victim: Instance, victim_key: str
) -> None:
    chat = {"key": victim_key, "port": victim.port, "format": "msgpack"}
    script = Path(__file__).with_name("killed_gateways.test.mjs")
    with subprocess.Popen(
        ["node", "--test-force-exit", "--test-reporter=tap", str(script)],
        env={**os.environ, "CHAT": json.dumps({**chat, "patience": PATIENCE})},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        said: list[str] = []
        for line in process.stdout:
            said.append(line)
            if "half of them" in line:
                for name in GATEWAYS:
                    victim.kill(name)
        assert process.wait(timeout=PATIENCE) == 0, "".join(said)
