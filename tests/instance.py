"""A real instance, run by `manage.py up` as an operator would, with what tests do to it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psutil

from chatsite.server.board import PLACE
from chatsite.up.embedded import free_port
from chatsite.up.processes import popen_options
from tests.patience import PATIENCE

T = TypeVar("T")
ROOT = Path(__file__).resolve().parent.parent
# What tests/services.py sets for the tests' own process must not reach an instance.
FOREIGN = ("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "DATA", "PORT", "PUBLIC_URL")


def wait_until(condition: Callable[[], T], *, seconds: float = PATIENCE, what: str = "") -> T:
    """Return the first true value of condition(). Raises AssertionError after the deadline."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what or condition}")
        time.sleep(0.02)
    return value


def launch_options() -> dict[str, Any]:
    """Return arguments for Popen that end `up` with the test run, even after kill -9 of it.

    The kernel's signal goes out when the thread that started a process ends, so only the main thread asks for it.
    """
    if threading.current_thread() is threading.main_thread():
        return popen_options(orphan_signal=signal.SIGTERM)
    return {"start_new_session": True}


@contextmanager
def open_folder(prefix: str) -> Iterator[Path]:
    """Make a folder that the servers' user may enter, and remove it at the end.

    Not pytest's: a second test run beside this one takes the database's user the right to read those.
    """
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Instance:
    """One `manage.py up` and its folder."""

    def __init__(self, data: Path, *, port: int, gateways: int = 1, workers: int = 1) -> None:
        self.data = data
        self.port = port
        self.options = ["--gateways", str(gateways), "--workers", str(workers)]
        self.output = data.parent / f"{data.name}.out"
        self.errors = data.parent / f"{data.name}.err"
        self.process: subprocess.Popen[bytes] | None = None

    @classmethod
    @contextmanager
    def started(cls, folder: Path, **options: int) -> Iterator[Instance]:
        """Start an instance in folder/data on a free port, and stop it at the end."""
        instance = cls(folder / "data", port=free_port(), **options)
        try:
            instance.up()
            yield instance
        finally:
            instance.stop()

    @classmethod
    @contextmanager
    def temporary(cls, **options: int) -> Iterator[Instance]:
        """Start an instance in a folder of its own, and remove it at the end."""
        with open_folder("chatsite-instance-") as folder, cls.started(folder, **options) as instance:
            yield instance

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def facts(self) -> dict[str, Any]:
        """What `up` wrote about itself."""
        return dict(json.loads((self.data / "instance.json").read_text()))

    def up(self) -> None:
        """Run `up` and return when it says that it is ready."""
        self.launch()
        wait_until(self.is_ready_or_ended, what="ready")
        assert self.is_ready(), self.errors.read_text()

    def launch(self) -> None:
        """Run `up` without waiting for anything."""
        with self.output.open("wb") as output, self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "up", "--port", str(self.port), *self.options],
                cwd=ROOT,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                **launch_options(),
            )

    def is_ready(self) -> bool:
        return f"ready: {self.url}/\n" in self.output.read_text()

    def is_ready_or_ended(self) -> bool:
        assert self.process is not None
        return self.process.poll() is not None or self.is_ready()

    def stop(self, number: int = signal.SIGTERM) -> int | None:
        """Ask `up` to stop and return its exit code, None if it had to be killed. Does nothing if it does not run."""
        if self.process is None:
            return None
        self.process.send_signal(number)
        try:
            code = self.process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill_everything()
            return None
        self.process = None
        return code

    def kill_everything(self) -> None:
        """End `up` without a word, and wait until the system has ended its children."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(timeout=PATIENCE)
        self.process = None

    def pids(self) -> dict[str, int]:
        """Return the process id of each service by name: postgres, valkey, lambda, gateway-1, worker-1 ..."""
        return dict(self.facts["processes"])

    def gateways(self) -> dict[str, int]:
        """Return the process ids of the gateways by name."""
        return {name: pid for name, pid in self.pids().items() if name.startswith("gateway")}

    def wait_for_gateways(self) -> None:
        """Return when all gateways listen: `up` is ready when one of them does.

        Each writes on a board several times a second. What a killed one wrote stays there, so only new marks count.
        """
        began = time.monotonic()
        wait_until(lambda: all(at > began for at in self._marks()), what="all gateways listen")

    def _marks(self) -> list[float]:
        """Return when each gateway last wrote on the board, in monotonic seconds."""
        written = [at for at, _ in PLACE.iter_unpack((self.data / "gateways").read_bytes())]
        return [written[int(name[-1])] for name in self.gateways()]

    def kill(self, name: str) -> int:
        """kill -9 one service, wait until `up` has started it again, and return the new process id."""
        old = self.pids()[name]
        os.kill(old, signal.SIGKILL)
        return wait_until(lambda: self._successor(name, old), what=f"{name} starts again")

    def _successor(self, name: str, old: int) -> int:
        new = self.pids()[name]
        return new if new != old and psutil.pid_exists(new) else 0

    def is_healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/healthz", timeout=PATIENCE) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    def manage(self, *arguments: str) -> Any:
        """Run a management command on this instance with --json and return what it printed."""
        result = subprocess.run(
            [sys.executable, "manage.py", *arguments, "--json"],
            cwd=ROOT,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert result.returncode == 0, result.stderr + result.stdout
        return json.loads(result.stdout)

    def key(self, capability: dict[str, list[str]] | None = None) -> str:
        """Return a new API key, by default for everything."""
        text = json.dumps(capability or {"*": ["*"]})
        return str(self.manage("apikey", "create", "--capability", text)["key"])

    def environment(self) -> dict[str, str]:
        """Return an environment in which commands work on this instance."""
        own = {name: value for name, value in os.environ.items() if name not in FOREIGN}
        return own | {"DATA": str(self.data)}
