"""Watches a handler's folder for changes by looking at it, which works on every system and file system."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Mapping
from importlib.util import cache_from_source
from pathlib import Path

from integrations.lambda_runtime import limits

SUFFIXES = frozenset({".py", ".mjs", ".cjs", ".js", ".json", ".txt"})
SKIPPED = frozenset({"node_modules", "__pycache__", "venv"})
Stamp = tuple[int, int, int]  # time of change (ns), size, inode


async def watch(file: Path, on_change: Callable[[list[str]], Awaitable[object]]) -> None:
    """Call `on_change` with the names that changed in the file's folder, until cancelled.

    A change counts once nothing has changed between two looks, so that a half-written file is not served.
    """
    served = await asyncio.to_thread(snapshot, file.parent)
    while True:
        await asyncio.sleep(limits.RELOAD_LOOK_SECONDS)
        seen = await asyncio.to_thread(snapshot, file.parent)
        if seen == served:
            continue
        seen = await _settled(file.parent, seen)
        changed = sorted(path for path in {*served, *seen} if served.get(path) != seen.get(path))
        served = seen
        if changed and file.exists():  # an editor may remove a file before it writes it
            _forget_bytecode(changed)
            await on_change([Path(path).name for path in changed])


def snapshot(folder: Path) -> Mapping[str, Stamp]:
    """Return time of change, size and inode of the sources below a folder, at most `limits.MAX_WATCHED_FILES`."""
    found: dict[str, Stamp] = {}
    _scan(str(folder), limits.MAX_WATCHED_DEPTH, found)
    return found


def _scan(folder: str, depth: int, found: dict[str, Stamp]) -> None:
    # What vanishes while it is looked at will be seen to be gone by the next look.
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name in SKIPPED or len(found) >= limits.MAX_WATCHED_FILES:
                continue
            if entry.is_dir(follow_symlinks=False):
                if depth > 1:
                    _scan(entry.path, depth - 1, found)
            elif os.path.splitext(entry.name)[1] in SUFFIXES:
                status = entry.stat()
                found[entry.path] = (status.st_mtime_ns, status.st_size, status.st_ino)


async def _settled(folder: Path, seen: Mapping[str, Stamp]) -> Mapping[str, Stamp]:
    while True:
        await asyncio.sleep(limits.RELOAD_LOOK_SECONDS)
        latest = await asyncio.to_thread(snapshot, folder)
        if latest == seen:
            return seen
        seen = latest


def _forget_bytecode(paths: list[str]) -> None:
    """Remove the bytecode: Python compares whole seconds and sizes alone, and would miss a quick edit."""
    for path in paths:
        if path.endswith(".py"):
            with contextlib.suppress(OSError):
                os.unlink(cache_from_source(path))
