"""Two hosts with nothing in common but Postgres, Redis and their environment, as docs/scaling.md sets them up."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from redis.crc import key_slot

from chatsite.up.embedded import free_port
from rooms.protocol.wire import Action
from tests.chatsite.channel_layer.servers import SLOTS, Server, cluster, cluster_url
from tests.conformance.raw import RawClient
from tests.conformance.test_two_gateways import publish, texts
from tests.instance import FOREIGN, ROOT, launch_options, open_folder, wait_until
from tests.patience import PATIENCE


class Host:
    """One gateway at an address of its own, with a DATA folder that stays empty."""

    def __init__(self, address: str, data: Path, shared: dict[str, str]) -> None:
        self.data = data
        self.address, self.port = address, free_port()
        own = {name: value for name, value in os.environ.items() if name not in FOREIGN}
        self.environment = own | shared | {"DATA": str(data), "METRICS_ALLOW": "127.0.0.0/8"}
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.port}"

    def manage(self, *arguments: str) -> str:
        """Run a command there and return what it printed."""
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self) -> None:
        command = [sys.executable, "manage.py", "gateway", "--host", self.address, "--port", str(self.port)]
        self.process = subprocess.Popen(command, cwd=ROOT, env=self.environment, **launch_options())

    def is_healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/healthz", timeout=PATIENCE) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    def counted(self, name: str) -> int:
        """Return one of the gateway's metrics."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=PATIENCE) as response:
            found = re.search(rf"^{name}\{{[^}}]*\}} ([0-9.e+]+)$", response.read().decode(), re.MULTILINE)
        assert found is not None
        return int(float(found.group(1)))

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(timeout=PATIENCE)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with open_folder("chatsite-hosts-") as path:
        yield path


@pytest.fixture(scope="module")
def nodes(folder: Path) -> Iterator[list[Server]]:
    with cluster(folder / "cluster") as servers:
        yield servers


@pytest.fixture(scope="module")
def hosts(postgres: str, nodes: list[Server], folder: Path) -> Iterator[tuple[Host, Host]]:
    """Two hosts that are up, with an empty database of their own."""
    name = f"hosts_{secrets.token_hex(4)}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    shared = {
        "DATABASE_URL": postgres.replace("/postgres?", f"/{name}?"),
        "REDIS_URL": cluster_url(nodes),
        "SECRET_KEY": secrets.token_urlsafe(40),
        "ALLOWED_HOSTS": "127.0.0.2,127.0.0.3",
        "PUBLIC_URL": "http://127.0.0.2",
    }
    pair = Host("127.0.0.2", folder / "a", shared), Host("127.0.0.3", folder / "b", shared)
    try:
        pair[0].manage("migrate", "--verbosity=0")
        for host in pair:
            host.start()
        wait_until(lambda: all(host.is_healthy() for host in pair))
        yield pair
    finally:
        for host in pair:
            host.stop()
        with psycopg.connect(postgres, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module")
def key(hosts: tuple[Host, Host]) -> str:
    """An API key made on the first host."""
    return str(json.loads(hosts[0].manage("apikey", "create", "--capability", '{"*":["*"]}', "--json"))["key"])


async def test_members_of_two_hosts_share_a_room_and_a_host_hears_only_of_its_own(
    hosts: tuple[Host, Host], key: str
) -> None:
    here, there = hosts
    async with RawClient.connected(here.url, key=key) as near, RawClient.connected(there.url, key=key) as far:
        await far.attach("shared")
        before = there.counted("chat_broadcasts_received_total")
        await publish(near, "elsewhere", 0, 29)
        await publish(near, "shared", 30, 49)
        assert await texts(far, 20) == [str(number) for number in range(30, 50)]
        assert there.counted("chat_broadcasts_received_total") - before <= 20
        assert there.counted("chat_healed_total") == 0
    assert not here.data.exists() and not there.data.exists()


async def test_a_connection_goes_on_at_the_other_host_under_its_old_id(hosts: tuple[Host, Host], key: str) -> None:
    here, there = hosts
    async with RawClient.connected(here.url, key=key) as client:
        first = await client.expect(Action.CONNECTED)
    connection_key = first["connectionDetails"]["connectionKey"]
    async with RawClient.connected(there.url, key=key, resume=connection_key) as client:
        second = await client.expect(Action.CONNECTED)
    assert second["connectionId"] == first["connectionId"]
    assert "error" not in second


async def test_nothing_is_lost_when_a_rooms_redis_node_dies(
    hosts: tuple[Host, Host], nodes: list[Server], key: str
) -> None:
    here, there = hosts
    async with RawClient.connected(here.url, key=key) as near, RawClient.connected(there.url, key=key) as far:
        await far.attach("resilient")
        await publish(near, "resilient", 0, 4)
        assert await texts(far, 5) == [str(number) for number in range(5)]
        with psycopg.connect(here.environment["DATABASE_URL"]) as connection:
            row = connection.execute("SELECT id FROM rooms_room WHERE name = 'resilient'").fetchone()
        assert row is not None
        slot = key_slot(f"chat__group__room.{row[0]}".encode())
        nodes[slot * 3 // SLOTS].kill()
        await publish(near, "resilient", 5, 24)
        assert await texts(far, 20) == [str(number) for number in range(5, 25)]
    assert there.counted("chat_healed_total") >= 20
