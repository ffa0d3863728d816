"""A change of the handler's folder: the next call is served by what the file says now."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from integrations.lambda_runtime import limits
from integrations.lambda_runtime.reload import snapshot
from integrations.lambda_runtime.server import Options

Serve = Callable[..., Awaitable[Any]]
Eventually = Callable[..., Awaitable[None]]
RELOADING = Options(reload=True, concurrency=2)


def python(number: int) -> str:
    return f"from more import extra\ndef handler(event, context):\n    return [{number}, extra]\n"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RELOAD_LOOK_SECONDS", 0.01)


async def test_the_file_and_its_modules_are_served_as_they_are_now(
    serve: Serve, eventually: Eventually, tmp_path: Path
) -> None:
    more = tmp_path / "more.py"
    more.write_text("extra = 1\n")
    served = await serve("work.py", python(1), served=RELOADING)
    assert (await served.get()).json() == [1, 1]
    # Within the same second, and of the same size: what Python compiled would still count as right.
    more.write_text("extra = 2\n")
    await eventually(lambda: "RELOAD more.py" in served.log)
    assert (await served.get()).json() == [1, 2]
    (tmp_path / "work.py").write_text("def handler(event, context)\n")
    await eventually(lambda: "RELOAD work.py: it cannot be loaded" in served.log)
    assert (await served.get()).status_code == 502
    (tmp_path / "work.py").write_text(python(3))
    await eventually(lambda: served.log.endswith("RELOAD work.py\n"))
    assert (await served.get()).json() == [3, 2]


async def test_a_call_that_runs_ends_as_it_began(serve: Serve, eventually: Eventually, tmp_path: Path) -> None:
    source = """
        import os, pathlib, time
        here = pathlib.Path(__file__).parent
        def handler(event, context):
            (here / "arrived").touch()
            while event["rawPath"] == "/wait" and not (here / "go").exists():
                time.sleep(0.005)
            return "old"
    """
    served = await serve("work.py", source, served=RELOADING, timeout_seconds=20)
    running = asyncio.create_task(served.get("wait"))
    await eventually((tmp_path / "arrived").exists)
    (tmp_path / "work.py").write_text("def handler(event, context):\n    return 'new'\n")
    await eventually(lambda: "RELOAD work.py" in served.log)
    assert (await served.get()).text == "new"
    (tmp_path / "go").touch()
    assert (await running).text == "old"
    assert (await served.get()).text == "new"


def test_only_sources_are_looked_at_and_not_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("work.py", "words.txt", "work.pyc", ".hidden.py", "node_modules/a.js", "lib/b.mjs", "a/b/c/d/e.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere.py")
    found = {str(Path(path).relative_to(tmp_path)) for path in snapshot(tmp_path)}
    assert found <= {"work.py", "words.txt", "lib/b.mjs"}
    (tmp_path / "gone.py").unlink()
    assert {Path(path).name for path in snapshot(tmp_path)} == {"work.py", "words.txt", "b.mjs"}
    monkeypatch.setattr(limits, "MAX_WATCHED_FILES", 2)
    assert len(snapshot(tmp_path)) == 2
    assert snapshot(tmp_path / "nowhere") == {}
