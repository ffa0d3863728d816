"""The command as a process: how it starts, and that nothing stays behind whichever way it ends."""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from integrations.lambda_runtime import limits
from integrations.lambda_runtime.command_line import add_options, run
from integrations.lambda_runtime.execution.function import FunctionError
from tests.instance import wait_until
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[3]
COMMAND = [sys.executable, "-m", "integrations.lambda_runtime"]
# Starts a child of its own, and can be told to hang.
FAMILY = """
import os, subprocess, time
child = subprocess.Popen(["sleep", "3600"])

def handler(event, context):
    if event["rawPath"] == "/hang":
        open("hanging", "w").close()
        time.sleep(3600)
    return {"pids": [os.getpid(), child.pid]}
"""
Start = Callable[..., tuple[subprocess.Popen[str], str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start the command for a handler's source; returns the process and its URL."""
    started: list[subprocess.Popen[str]] = []

    def run(source: str, *options: str, command: list[str] = COMMAND) -> tuple[subprocess.Popen[str], str]:
        file = tmp_path / "function.py"
        file.write_text(source)
        arguments = [*command, str(file), "--port", "0", "--json", *options]
        with (tmp_path / "log").open("w") as log:
            process = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True)
        started.append(process)
        assert process.stdout is not None
        return process, json.loads(process.stdout.readline())["url"]

    yield run
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def is_gone(pid: int) -> bool:
    """Whether a process is gone; one that nobody waited for (in a container without an init) counts as gone."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def get(url: str, path: str = "") -> Any:
    return httpx.get(url + path, trust_env=False, timeout=PATIENCE).json()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_all_that_it_started(start: Start, tmp_path: Path, number: signal.Signals) -> None:
    """Although an invocation is running that has much more time: one second is what they all get."""
    process, url = start(FAMILY, "--timeout", "900")
    pids = get(url)["pids"]
    with subprocess.Popen(["curl", "-s", "--noproxy", "*", url + "hang"]) as caller:
        wait_until((tmp_path / "hanging").exists)
        process.send_signal(number)
        assert process.wait(timeout=PATIENCE) == 0
        caller.kill()
    wait_until(lambda: all(map(is_gone, pids)))
    assert limits.DRAIN_SECONDS <= 1


def test_a_signal_lets_a_short_invocation_end_first(start: Start, tmp_path: Path) -> None:
    source = """
import pathlib, time
def handler(event, context):
    pathlib.Path("arrived").touch()
    time.sleep(0.3)
    return {"finished": True}
"""
    process, url = start(source)
    with subprocess.Popen(["curl", "-s", "--noproxy", "*", url], stdout=subprocess.PIPE, text=True) as caller:
        wait_until((tmp_path / "arrived").exists)
        process.terminate()
        assert caller.communicate()[0] == '{"finished":true}'
    assert process.wait(timeout=PATIENCE) == 0


def test_a_handler_that_loads_for_ever_does_not_hold_up_the_end(tmp_path: Path) -> None:
    (tmp_path / "function.py").write_text("import os, time\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(300)")
    with subprocess.Popen([*COMMAND, str(tmp_path / "function.py"), "--port", "0"], cwd=ROOT) as process:
        wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text() != "")
        process.terminate()
        assert process.wait(timeout=PATIENCE) == 0
    wait_until(lambda: is_gone(int((tmp_path / "pid").read_text())))


@pytest.mark.skipif(sys.platform != "linux", reason="the system must tell children that their parent died")
def test_kill_minus_nine_leaves_no_handler_behind(start: Start) -> None:
    process, url = start("import os\ndef handler(event, context):\n    return os.getpid()\n")
    pid = get(url)
    process.kill()
    wait_until(lambda: is_gone(pid))


def test_a_timeout_kills_what_the_handler_started_too(start: Start) -> None:
    _, url = start(FAMILY, "--timeout", "3", "--concurrency", "1")
    pids = get(url)["pids"]
    assert httpx.get(url + "hang", trust_env=False, timeout=PATIENCE).status_code == 502
    assert all(map(is_gone, pids))
    assert set(get(url)["pids"]).isdisjoint(pids)


def test_variables_are_given_or_passed_on(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSED_ON", "ours")
    monkeypatch.setenv("KEPT_BACK", "secret")
    source = "import os\ndef handler(event, context):\n    return dict(os.environ)\n"
    _, url = start(source, "--env", "A=1=2", "--env", "PASSED_ON", "--env", "NOT_SET")
    seen = get(url)
    assert (seen["A"], seen["PASSED_ON"]) == ("1=2", "ours")
    assert not {"KEPT_BACK", "NOT_SET"} & seen.keys()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["nothing.py"], "there is no file nothing.py"),
        (["README.txt"], "a .py, .mjs, .cjs or .js file"),
        (["two.dots.py"], "no dot before its ending"),
        (["fine.py", "--timeout", "0"], "timeout: above 0"),
        (["fine.py", "--memory", "64"], "memory: from 128"),
        (["fine.py", "--concurrency", "0"], "--concurrency: from 1"),
        (["fine.py", "--env", "=x"], "NAME=VALUE"),
        (["fine.py", "--error-rate", "2"], "the rate of errors is from 0 to 1"),
    ],
)
def test_what_cannot_be_served_is_refused_with_a_reason(tmp_path: Path, options: list[str], message: str) -> None:
    for name in ("README.txt", "two.dots.py", "fine.py"):
        (tmp_path / name).write_text("def handler(event, context):\n    return 1\n")
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*COMMAND, *options], cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_the_log_of_requests_is_for_a_terminal(start: Start, tmp_path: Path) -> None:
    source = "def handler(event, context):\n    raise ValueError('a reason')\n"
    process, url = start(source, "--log", "requests")
    assert httpx.get(url + "path?query", trust_env=False, timeout=PATIENCE).status_code == 502
    process.terminate()
    process.wait(timeout=PATIENCE)
    lines = (tmp_path / "log").read_text().split("\n")
    assert "    raise ValueError('a reason')" in [line.replace("\xa0", " ") for line in lines]
    assert [line.split("  ")[1:3] for line in lines if "GET" in line] == [["GET /path", "502"]]
    assert not any("START" in line or "\r" in line for line in lines)


def test_a_port_that_is_taken_is_named(start: Start, tmp_path: Path) -> None:
    _, url = start("def handler(event, context):\n    return 1\n")
    port = str(httpx.URL(url).port)
    again = [*COMMAND, str(tmp_path / "function.py"), "--port", port]
    done = subprocess.run(again, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 1
    assert port in done.stderr
    assert "Traceback" not in done.stderr


def test_django_runs_it_without_a_database(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    source = "def handler(event, context):\n    return {'fine': True}\n"
    process, url = start(source, command=[sys.executable, "manage.py", "lambda"])
    assert get(url) == {"fine": True}
    process.terminate()
    assert process.wait(timeout=PATIENCE) == 0


def test_a_taken_port_is_told_with_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "function.py"
    file.write_text("def handler(event, context): ...")
    parser = argparse.ArgumentParser()
    add_options(parser)
    with socket.create_server(("127.0.0.1", 0)) as other:
        options = vars(parser.parse_args([str(file), "--port", str(other.getsockname()[1])]))
        with pytest.raises(FunctionError, match=r"port \d+ is taken: choose another with --port"):
            run(options, print_line=print)
