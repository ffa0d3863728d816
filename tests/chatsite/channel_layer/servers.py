"""Valkeys for tests of the channel layer: single ones, and a cluster of three with a replica."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from chatsite.up.embedded import free_port, system_user, valkey_binary
from chatsite.up.processes import popen_options, read_tail
from tests.patience import PATIENCE

SLOTS = 16384
CLUSTER_OPTIONS = (
    *("--cluster-enabled", "yes", "--cluster-node-timeout", "1000"),
    *("--cluster-require-full-coverage", "no"),
)


@dataclass
class Server:
    """One Valkey that a test may kill, stop and start again at the same place."""

    folder: Path
    options: Sequence[str] = ()
    port: int = field(default_factory=free_port)
    bus_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def client(self) -> redis.Redis:
        """Return a client that tries once."""
        once = Retry(NoBackoff(), 0)
        return redis.Redis(port=self.port, socket_timeout=PATIENCE, retry=once, decode_responses=True)

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Start it without waiting."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o777)
        with (self.folder / "log").open("ab") as output:
            ports = ["--port", str(self.port), "--cluster-port", str(self.bus_port)]
            command = [str(valkey_binary()), *ports, "--bind", "127.0.0.1", "--save", ""]
            self.process = subprocess.Popen(
                [*command, "--dir", str(self.folder), *self.options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                **popen_options(orphan_signal=signal.SIGKILL, user=system_user()),
            )

    def wait(self) -> None:
        """Return when it answers."""
        assert self.process is not None
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"a Valkey did not start:\n{read_tail(self.folder / 'log')}", pytrace=False)
            time.sleep(0.01)

    def kill(self) -> None:
        """Kill -9."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(timeout=PATIENCE)
            self.process = None

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Let it take connections and answer nothing."""
        assert self.process is not None
        process = psutil.Process(self.process.pid)
        process.suspend()
        try:
            yield
        finally:
            process.resume()

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64)[:4] in (b"+PON", b"-NOA")
        except OSError:
            return False


@contextmanager
def running(folder: Path, count: int, options: Sequence[str] = ()) -> Iterator[list[Server]]:
    """Run servers, and kill them at the end."""
    with ExitStack() as stack:
        servers = [Server(folder / str(number), options) for number in range(count)]
        for server in servers:
            stack.callback(server.kill)
            server.launch()
        for server in servers:
            server.wait()
        yield servers


@contextmanager
def cluster(folder: Path, *, primaries: int = 3) -> Iterator[list[Server]]:
    """Run a cluster: primaries that share the slots evenly, and last a replica of the first."""
    with running(folder, primaries + 1, CLUSTER_OPTIONS) as nodes:
        edges = [SLOTS * number // primaries for number in range(primaries + 1)]
        for number, node in enumerate(nodes):
            with node.client() as client:
                if number < primaries:
                    client.execute_command("CLUSTER ADDSLOTSRANGE", edges[number], edges[number + 1] - 1)
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
                for other in nodes[:number]:
                    client.execute_command("CLUSTER MEET", "127.0.0.1", other.port, other.bus_port)
        wait_for_agreement(nodes)
        with nodes[0].client() as first, nodes[-1].client() as replica:
            replica.execute_command("CLUSTER REPLICATE", first.execute_command("CLUSTER MYID"))
        yield nodes


def wait_for_agreement(nodes: Sequence[Server], *, state: str = "ok") -> None:
    """Return when every node knows every other and is in this state."""
    deadline = time.monotonic() + PATIENCE
    for node in nodes:
        with node.client() as client:
            while not _agrees(client, state):
                assert time.monotonic() < deadline, "the cluster did not come to an agreement"
                time.sleep(0.02)


def _agrees(client: redis.Redis, state: str) -> bool:
    info = client.execute_command("CLUSTER INFO")
    return (info["cluster_state"], int(info["cluster_slots_assigned"])) == (state, SLOTS) and all(
        node["connected"] for node in client.execute_command("CLUSTER NODES").values()
    )


def cluster_url(nodes: Sequence[Server]) -> str:
    """Return what REDIS_URL would be."""
    return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes)
