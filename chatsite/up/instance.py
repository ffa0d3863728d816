"""The folder DATA of one instance: its lock, the values it keeps between starts, the addresses for other commands."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any


class AlreadyRunning(Exception):
    """Another `up` owns this folder; the text says which and what to do."""


class Instance:
    """One claimed DATA folder. Its files are readable by their owner only: they hold passwords."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.logs = data / "logs"
        self._lock: int | None = None
        self._published: dict[str, Any] = {}

    def claim(self) -> None:
        """Own the folder until this process ends, however it ends. Raises AlreadyRunning."""
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.logs.mkdir(mode=0o700, exist_ok=True)
        # Never inherited: the lock must end with this process, not with a child that survives it.
        lock = os.open(self.data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(lock, 32).decode("ascii", "replace").strip()
            os.close(lock)
            raise AlreadyRunning(
                f"An instance already runs on {self.data} (process {owner or 'unknown'}).\n"
                f"Stop it (Ctrl-C there, or: kill {owner or 'PID'}), "
                "or choose another folder and port: --data DIR --port P."
            ) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        self._lock = lock

    def keep(self, name: str, make: Callable[[], Any]) -> Any:
        """Return the value kept under this name, made at the first start."""
        if self.recall(name) is None:
            self.remember(name, make())
        return self.recall(name)

    def recall(self, name: str) -> Any:
        """Return the value kept under this name, or None."""
        return read_json(self.data / "kept.json").get(name)

    def remember(self, name: str, value: Any) -> None:
        """Keep a value under this name from now on."""
        kept = read_json(self.data / "kept.json")
        if kept.get(name) != value:
            write_json(self.data / "kept.json", kept | {name: value})

    def keep_secret_key(self) -> None:
        """Make the key that signs sessions and tokens, once."""
        path = self.data / "secret_key"
        if not path.exists():
            write_private(path, secrets.token_urlsafe(48) + "\n")

    def publish(self, **facts: Any) -> None:
        """Write facts that other commands read through settings, such as addresses; they add to earlier ones."""
        self._published |= facts
        write_json(self.data / "instance.json", self._published)

    def retire(self) -> None:
        """Remove the facts of publish(): nothing runs here any more."""
        (self.data / "instance.json").unlink(missing_ok=True)


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a file, or an empty one where there is none."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Replace a file by this object in one step, readable by its owner only."""
    write_private(path, json.dumps(value, indent=1) + "\n")


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step: a reader, or a crash, sees the old text or the new."""
    unfinished = path.with_name(path.name + ".new")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
