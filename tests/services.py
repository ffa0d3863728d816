"""A pytest plugin: the settings point at one Postgres and one Valkey, started when a test first needs them.

It is loaded by `-p` before pytest-django reads the settings: they need the addresses, not yet the servers.
With DATABASE_URL and REDIS_URL in the environment those servers are used instead.

The workers of pytest-xdist have a database each in one Postgres, which their controller starts before them. Each
worker starts a Valkey of its own: rooms have the same numbers in each database, and so the same channels.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from chatsite.up.embedded import Postgres, Valkey, free_port, make_password, system_user
from chatsite.up.processes import popen_options, read_tail
from tests.patience import PATIENCE

# Short, because the path of a Unix socket has at most 107 bytes.
DATA = Path(tempfile.mkdtemp(prefix="chatsite-tests-")).resolve()
POSTGRES = Postgres(data=DATA, durable=False)
VALKEY = Valkey(data=DATA, port=free_port(), password=make_password())
# A worker of xdist inherits the addresses of its controller, and whose they are.
IS_WORKER = "PYTEST_XDIST_WORKER" in os.environ
EXTERNAL_POSTGRES = os.environ.setdefault("EXTERNAL_POSTGRES", str("DATABASE_URL" in os.environ)) == str(True)
EXTERNAL_VALKEY = os.environ.setdefault("EXTERNAL_VALKEY", str("REDIS_URL" in os.environ)) == str(True)
POSTGRES_OF_WORKERS = pytest.StashKey[ExitStack]()

os.environ.setdefault("DATABASE_URL", POSTGRES.url)
if not EXTERNAL_VALKEY:
    os.environ["REDIS_URL"] = VALKEY.url
os.environ.setdefault("SECRET_KEY", "only-for-tests-0123456789abcdefghijklmnopqrstuvwxyz")
os.environ.setdefault("PORT", "8000")
os.environ["DATA"] = str(DATA)
atexit.register(shutil.rmtree, DATA, ignore_errors=True)


def serve(name: str, command: list[str], user: str | None, is_ready: Callable[[], bool]) -> Generator[None, None, None]:
    """Run a server until the generator is closed; fails with its log when it does not answer in time."""
    log = DATA / f"{name}.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=DATA,
            **popen_options(orphan_signal=signal.SIGINT, user=user),
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while not is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{name} did not start:\n{read_tail(log)}", pytrace=False)
            time.sleep(0.02)
        yield
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=PATIENCE)


@contextmanager
def running_postgres() -> Iterator[str]:
    """Run the Postgres of this test run, unless there is one already, and yield its URL."""
    if EXTERNAL_POSTGRES or IS_WORKER:
        yield os.environ["DATABASE_URL"]
        return
    user = system_user()
    POSTGRES.prepare(user)
    server = serve("postgres", POSTGRES.command(), user, POSTGRES.is_ready)
    next(server)
    yield POSTGRES.url
    server.close()


@pytest.hookimpl(wrapper=True)
def pytest_sessionstart(session: pytest.Session) -> Generator[None, None, None]:
    """Start Postgres for the workers, which inherit its address; xdist's own hook starts them."""
    if session.config.getoption("numprocesses", None):
        postgres = session.config.stash[POSTGRES_OF_WORKERS] = ExitStack()
        postgres.enter_context(running_postgres())
    yield


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash.get(POSTGRES_OF_WORKERS, ExitStack()).close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of the Postgres of this test run. Database tests get it through pytest-django by themselves."""
    with running_postgres() as url:
        yield url


@pytest.fixture(scope="session")
def valkey() -> Iterator[str]:
    """The URL of the Valkey of this test run; ask for it wherever channel layers are used."""
    if EXTERNAL_VALKEY:
        yield os.environ["REDIS_URL"]
        return
    user = system_user()
    VALKEY.prepare(user)
    server = serve("valkey", VALKEY.command(), user, VALKEY.is_ready)
    next(server)
    yield VALKEY.url
    server.close()
