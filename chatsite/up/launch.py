"""Launches one instance: Postgres, Valkey, the local Lambda, workers and gateways, in their order."""

from __future__ import annotations

import asyncio
import errno
import http.client
import json
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from chatsite.up.embedded import Postgres, Valkey, free_port, make_password, system_user
from chatsite.up.instance import Instance
from chatsite.up.processes import MARKER, stop_leftovers
from chatsite.up.supervisor import Service, Supervisor

ROOT = Path(__file__).resolve().parents[2]
MANAGE = (sys.executable, str(ROOT / "manage.py"))
HANDLER = ROOT / "integrations" / "examples" / "word_filter.py"
PREPARE_SECONDS = 120.0  # migrations of a large database are run by hand before an upgrade
LEFTOVER_SECONDS = 10.0
LISTEN_BACKLOG = 4096  # connections wait here while a gateway restarts
SERVER_STOP_SECONDS = 1.2
SWEEP_SECONDS = 0.2


class PortTaken(Exception):
    """Another process listens on the port; the text says what to do."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The options of the command line."""

    port: int
    gateways: int
    workers: int


class Launch:
    """One start of one instance, from an empty folder to a healthy server."""

    def __init__(self, instance: Instance, plan: Plan, report: Callable[[str], None]) -> None:
        self.instance = instance
        self.plan = plan
        self.report = report
        self.supervisor = Supervisor(instance.logs, report=report, changed=self._publish_processes)
        self.demo: dict[str, Any] = {}
        self._user: str | None = None
        self._listener: socket.socket | None = None  # kept open here: gateways that start again need it
        self._environment: dict[str, str] = {}
        self._is_new = False

    async def start(self) -> str:
        """Start everything and return the address once it is healthy. Raises errors whose texts say what to do."""
        if stopped := stop_leftovers(self.instance.data, patience_seconds=LEFTOVER_SECONDS):
            self.report(f"Ended {stopped} processes that an earlier instance left behind.")
        self._listener = listen(self.plan.port)
        port = int(self._listener.getsockname()[1])
        raise_descriptor_limit()
        self.instance.keep_secret_key()
        servers = self._plan_servers(port)
        # Started beside the servers it waits for: loading Django is most of what it does on a warm start.
        preparing = asyncio.create_task(self._prepare_database())
        try:
            await self.supervisor.start(*servers, self._lambda_service())
            self._publish_addresses(port)
            schema = self._describe_schema()
            if self._is_new or self.instance.recall("schema") != schema:
                await preparing
            # Otherwise nothing but the demo is to be looked after, and the gateways can load at the same time.
            await self._start_chat(self._listener.fileno(), port)
            await preparing
            self.instance.remember("schema", schema)
        finally:
            preparing.cancel()
            await asyncio.gather(preparing, return_exceptions=True)
        return f"http://127.0.0.1:{port}/"

    async def stop(self) -> None:
        """Stop everything within 5 s, whatever start() had reached."""
        if self._listener is not None:
            self._listener.close()
        await self.supervisor.stop()
        stop_leftovers(self.instance.data, patience_seconds=SWEEP_SECONDS)
        self.instance.retire()

    def _plan_servers(self, port: int) -> list[Service]:
        """Return the embedded servers that the environment does not replace; set the addresses of all."""
        data, services = self.instance.data, []
        database_url, redis_url = os.environ.get("DATABASE_URL", ""), os.environ.get("REDIS_URL", "")
        if not (database_url and redis_url):
            self._user = system_user()
        if not database_url:
            postgres = Postgres(data=data)
            self._is_new = postgres.is_new()
            database_url = postgres.url
            services.append(self._postgres_service(postgres))
        if not redis_url:
            valkey = Valkey(
                data=data,
                port=self._keep_port("valkey"),
                password=self.instance.keep("valkey", make_password),
            )
            redis_url = valkey.url
            services.append(self._valkey_service(valkey))
        self._environment = self._describe(port, database_url, redis_url)
        return services

    def _publish_addresses(self, port: int) -> None:
        names = ("PUBLIC_URL", "DATABASE_URL", "REDIS_URL", "WEBHOOK_ALLOW_PRIVATE")
        self.instance.publish(pid=os.getpid(), port=port, **{name.lower(): self._environment[name] for name in names})

    def _postgres_service(self, postgres: Postgres) -> Service:
        if self._is_new:
            self.report(f"First start: making a database in {postgres.folder} ...")
        return Service(
            name="postgres",
            command=postgres.command(),
            prepare=lambda: postgres.prepare(self._user),
            is_ready=postgres.is_ready,
            user=self._user,
            stop_signal=signal.SIGINT,  # SIGTERM would wait for every client to leave
            orphan_signal=signal.SIGINT,
            stop_seconds=SERVER_STOP_SECONDS,
            phase=1,
        )

    def _valkey_service(self, valkey: Valkey) -> Service:
        return Service(
            name="valkey",
            command=valkey.command(),
            prepare=lambda: valkey.prepare(self._user),
            is_ready=valkey.is_ready,
            user=self._user,
            stop_seconds=SERVER_STOP_SECONDS,
            phase=1,
        )

    def _describe(self, port: int, database_url: str, redis_url: str) -> dict[str, str]:
        """Return the environment that makes every child a part of this instance."""
        address = f"127.0.0.1:{self._keep_port('lambda')}"
        private = [os.environ.get("WEBHOOK_ALLOW_PRIVATE", ""), address]
        return {
            "DATA": str(self.instance.data),
            MARKER: str(self.instance.data),
            "PORT": str(port),
            "PUBLIC_URL": os.environ.get("PUBLIC_URL") or f"http://127.0.0.1:{port}",
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "WEBHOOK_ALLOW_PRIVATE": ",".join(filter(None, private)),
            "PYTHONUNBUFFERED": "1",
        }

    def _describe_schema(self) -> str:
        """Return a digest of which migrations of which code belong to which database."""
        migrations = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("*/migrations/*.py"))
        facts = [self._environment["DATABASE_URL"], version("django"), *migrations]
        return sha256("\n".join(facts).encode()).hexdigest()

    async def _prepare_database(self) -> None:
        command = [
            *MANAGE,
            "prepare",
            "--lambda-url",
            f"http://127.0.0.1:{self._keep_port('lambda')}/",
            "--json",
        ]
        output = await self.supervisor.run("prepare", command, environment=self._environment, limit=PREPARE_SECONDS)
        self.demo = json.loads(output)

    async def _start_chat(self, listener: int, port: int) -> None:
        board = self.instance.data / "gateways"  # see chatsite.server.board; an earlier run's is of no use
        board.unlink(missing_ok=True)
        gateways = [
            self._service(
                f"gateway-{number}",
                ["gateway", "--fd", str(listener), "--board", str(board), "--place", str(number)],
                pass_fds=(listener,),
                is_ready=lambda: is_healthy(port),
                stop_signal=signal.SIGINT,  # SIGTERM would send each member elsewhere first, and there is nowhere
            )
            for number in range(1, self.plan.gateways + 1)
        ]
        workers = [self._service(f"worker-{n}", ["worker"]) for n in range(1, self.plan.workers + 1)]
        await self.supervisor.start(*workers, *gateways)

    def _lambda_service(self) -> Service:
        port = self._keep_port("lambda")
        return Service(
            name="lambda",
            # The same as `manage.py lambda`, without Django: it is there before the first message can be.
            command=[sys.executable, "-m", "integrations.lambda_runtime", str(HANDLER), "--port", str(port)],
            environment=self._environment,
            folder=ROOT,
            is_ready=lambda: is_listening(port),
        )

    def _service(
        self,
        name: str,
        arguments: list[str],
        *,
        pass_fds: tuple[int, ...] = (),
        is_ready: Callable[[], bool] | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> Service:
        return Service(
            name=name,
            command=[*MANAGE, *arguments],
            environment=self._environment,
            pass_fds=pass_fds,
            is_ready=is_ready,
            stop_signal=stop_signal,
            # When `up` was killed, nobody will kill a child that does not listen; what it holds is durable.
            orphan_signal=signal.SIGKILL,
        )

    def _keep_port(self, name: str) -> int:
        """Return the same loopback port at every start, so that gateways and rules find it where it was."""
        return int(self.instance.keep(f"{name}_port", free_port))

    def _publish_processes(self, processes: dict[str, int]) -> None:
        self.instance.publish(processes=processes)


def listen(port: int) -> socket.socket:
    """Return the socket that all gateways accept from. Raises PortTaken."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(LISTEN_BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        raise PortTaken(
            f"Port {port} on 127.0.0.1 is not free: {os.strerror(error.errno)}.\n"
            f"Stop what listens there, or choose another port: --port {port + 1}"
        ) from None
    return listener


def is_healthy(port: int) -> bool:
    """Return whether the server at our own address says that it is healthy."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def is_listening(port: int) -> bool:
    """Return whether a local process accepts connections on the port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def raise_descriptor_limit() -> None:
    """Let gateways hold as many sockets as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
