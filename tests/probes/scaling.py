"""The measured figures behind docs/scaling.md: `.venv/bin/python -m tests.probes.scaling` (a minute, 3,000 sockets).

Everything is CPU time or bytes, never wall time: other load on the machine hardly changes it.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatsite.settings")

import msgspec
import psutil
import psycopg
from websockets.asyncio.client import connect

from rooms.protocol.wire import Action
from tests.instance import Instance
from tests.probes import broadcasts

MEMBERS = 3000
FRAME_HEADER_BYTES = 4  # of a WebSocket frame of 126 to 65,535 bytes
ROOMS = (100, 1000, 10_000)


def family_cpu(pids: list[int]) -> float:
    """Return the CPU seconds of processes and everything below them, the dead included."""
    total = 0.0
    for pid in pids:
        process = psutil.Process(pid)
        for each in [process, *process.children(recursive=True)]:
            times = each.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return float(total)


class Meter:
    """CPU seconds of each kind of process of an instance since the meter was made."""

    def __init__(self, instance: Instance) -> None:
        self._pids: dict[str, list[int]] = {}
        for name, pid in instance.pids().items():
            self._pids.setdefault(name.rstrip("-0123456789"), []).append(pid)
        self._began = self._read()

    def _read(self) -> dict[str, float]:
        return {kind: family_cpu(pids) for kind, pids in self._pids.items()}

    def used(self) -> dict[str, float]:
        """Return what was used by kind: gateway, worker, postgres, valkey."""
        return {kind: now - self._began[kind] for kind, now in self._read().items()}


@contextmanager
def most_memory(pid: int) -> Iterator[list[int]]:
    """Yield a list whose one value is, in the end, by how many bytes a process grew at most."""
    process = psutil.Process(pid)
    before = process.memory_full_info().uss
    grown, stopping = [0], threading.Event()

    def watch() -> None:
        while not stopping.wait(0.2):
            grown[0] = max(grown[0], process.memory_full_info().uss - before)

    thread = threading.Thread(target=watch)
    thread.start()
    yield grown
    stopping.set()
    thread.join()


def swarm(instance: Instance, **options: float) -> dict[str, Any]:
    """Run the swarm with 200-byte messages and return its report."""
    arguments = [f"--{name}={value:g}" for name, value in {"size": 200, "publishers": 1, **options}.items()]
    return dict(instance.manage("swarm", *arguments))


def measure_members(instance: Instance) -> dict[str, float]:
    """Return what connecting, staying and each delivery cost the gateway, at one and five messages a second."""
    swarm(instance, members=20, rate=5, seconds=1)  # everything is loaded and compiled
    meter = Meter(instance)
    with most_memory(instance.pids()["gateway-1"]) as grown:  # by the first crowd: memory is used again
        swarm(instance, members=MEMBERS, rate=1, seconds=1)
    once = meter.used()["gateway"]
    found = {"bytes per member": grown[0] / MEMBERS}
    for rate in (1, 5):
        meter = Meter(instance)
        report = swarm(instance, members=MEMBERS, rate=rate, seconds=8)
        more = report["delivered"] - MEMBERS
        found[f"CPU us per delivery at {rate} msg/s"] = (meter.used()["gateway"] - once) / more * 1e6
    per_delivery = found["CPU us per delivery at 5 msg/s"]
    found["CPU us per connect, attach and close"] = once / MEMBERS * 1e6 - per_delivery
    return found


def measure_messages(instance: Instance) -> dict[str, float]:
    """Return CPU microseconds of each process, and bytes of WAL, for one accepted message."""
    with psycopg.connect(instance.facts["database_url"], autocommit=True) as connection:
        wal = "SELECT pg_current_wal_lsn() - '0/0'::pg_lsn"
        swarm(instance, members=1, rate=100, seconds=1, publishers=10)
        began = connection.execute(wal).fetchone()
        meter = Meter(instance)
        report = swarm(instance, members=1, rate=500, seconds=8, publishers=50)
        used, count = meter.used(), report["published"]
        ended = connection.execute(wal).fetchone()
    assert began is not None and ended is not None
    found = {f"{kind} CPU us per message": seconds / count * 1e6 for kind, seconds in used.items()}
    return found | {"WAL bytes per message": float(ended[0] - began[0]) / count}


def measure_healing(instance: Instance) -> dict[str, float]:
    """Return milliseconds that Postgres takes to tell the heads of so many rooms, as every gateway asks it to."""
    found = {}
    with psycopg.connect(instance.facts["database_url"]) as connection:
        connection.execute(
            "CREATE TEMP TABLE probe ON COMMIT DROP AS SELECT n AS id, n AS head, repeat('x', 100) AS others "
            "FROM generate_series(1, 10000) n"
        )
        connection.execute("CREATE UNIQUE INDEX ON probe (id)")
        connection.execute("ANALYZE probe")
        for count in ROOMS:
            ids = list(range(1, count + 1))
            times = []
            for _ in range(10):
                plan = connection.execute(
                    "EXPLAIN (ANALYZE, FORMAT JSON) SELECT id, head FROM probe WHERE id = ANY(%s)", [ids]
                ).fetchone()
                assert plan is not None
                times.append(plan[0][0]["Execution Time"])
            found[f"ms to read the heads of {count} rooms"] = sorted(times)[0]
        connection.rollback()
    return found


def measure_idle(instance: Instance, seconds: float = 5.0) -> dict[str, float]:
    """Return the share of a core that each kind of process takes when nothing happens."""
    meter = Meter(instance)
    time.sleep(seconds)
    return {f"idle {kind}, % of a core": used / seconds * 100 for kind, used in meter.used().items()}


async def bytes_per_delivery(instance: Instance) -> dict[str, int]:
    """Return the length of the WebSocket frame that brings one 200-byte message to a member."""
    found = {}
    for name, decode in (("json", msgspec.json.decode), ("msgpack", msgspec.msgpack.decode)):
        address = instance.url.replace("http", "ws", 1) + f"/?key={instance.key()}&clientId=somebody&format={name}"
        async with connect(address, compression=None) as socket:
            encode = msgspec.json.encode if name == "json" else msgspec.msgpack.encode
            message = {"name": "chat", "data": "x" * 200}
            for request in ({"action": 10}, {"action": 15, "msgSerial": 0, "messages": [message]}):
                sent = encode({"channel": "lobby-of-probe", **request})
                await socket.send(sent.decode() if name == "json" else sent)
            while decode(frame := await socket.recv())["action"] != Action.MESSAGE:
                pass
            found[f"bytes per {name} frame"] = len(frame) + FRAME_HEADER_BYTES
    return found


def main() -> None:
    """Measure everything and print it as JSON."""
    show("valkey CPU us per PUBLISH by subscribers", broadcasts.valkey_us_per_publish())
    show("channel layer CPU us per broadcast", broadcasts.layer_us())
    with Instance.temporary(gateways=1) as instance:
        show("bytes", asyncio.run(bytes_per_delivery(instance)))
        show("idle", measure_idle(instance))
        show("members", measure_members(instance))
        show("messages", measure_messages(instance))
        show("healing", measure_healing(instance))
        show("machine", machine())


def machine() -> dict[str, object]:
    """Return on what it was measured."""
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        model = re.search(r"model name\s*: (.*)", lines.read())
    return {"cpu": model.group(1) if model else "unknown", "cores": os.cpu_count(), "python": sys.version.split()[0]}


def show(title: str, figures: dict[Any, Any]) -> None:
    """Print one group at once: a later one may fail."""
    rounded = {name: round(value, 2) if isinstance(value, float) else value for name, value in figures.items()}
    print(json.dumps({title: rounded}), flush=True)


if __name__ == "__main__":
    main()
