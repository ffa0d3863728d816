"""The real `manage.py up`: ready, restarting, stopping, crashing."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from chatsite.up.processes import find_leftovers
from tests.instance import ROOT, Instance, wait_until
from tests.patience import PATIENCE

SERVICES = ["postgres", "valkey", "lambda", "worker-1", "gateway-1", "gateway-2"]


@pytest.fixture(scope="module")
def hurt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """An instance that these tests may hurt, and leave as it is then."""
    with Instance.started(tmp_path_factory.mktemp("up"), gateways=2) as instance:
        yield instance


@pytest.fixture
def running(hurt: Instance) -> Instance:
    """It runs."""
    if hurt.process is None:
        hurt.up()
    return hurt


@pytest.fixture
def stopped(hurt: Instance) -> Instance:
    """It does not run."""
    hurt.stop()
    return hurt


def refused_up(instance: Instance, *arguments: str) -> str:
    """Run another `up` that must fail at once, and return what it says."""
    result = subprocess.run(
        [sys.executable, "manage.py", "up", *arguments],
        cwd=ROOT,
        env=instance.environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    return result.stderr


def leftovers(instance: Instance) -> list[psutil.Process]:
    return list(find_leftovers(instance.data))


def test_it_prints_one_ready_line_and_then_what_to_try(running: Instance) -> None:
    lines = running.output.read_text().splitlines()
    assert lines[0] == f"ready: {running.url}/"
    assert not [line for line in lines[1:] if line.startswith("ready:")]
    assert "apikey create" in "\n".join(lines)


def test_it_is_healthy_when_it_says_ready(running: Instance) -> None:
    assert running.is_healthy()


def test_it_listens_on_this_machine_only(running: Instance) -> None:
    assert running.process is not None
    family = [running.process.pid, *running.pids().values()]
    open_ports = [c.laddr for pid in family for c in psutil.Process(pid).net_connections("inet")]
    assert open_ports
    assert {address.ip for address in open_ports} == {"127.0.0.1"}


def test_its_files_are_closed_to_other_users(running: Instance) -> None:
    for name in ("instance.json", "kept.json", "secret_key", "postgres", "logs"):
        assert (running.data / name).stat().st_mode & 0o077 == 0, name


@pytest.mark.parametrize("name", SERVICES)
def test_a_killed_service_starts_again(running: Instance, name: str) -> None:
    running.kill(name)
    wait_until(running.is_healthy, what="healthy again")
    assert set(running.pids()) == set(SERVICES)


def test_a_second_up_on_the_same_folder_is_refused_with_the_way_out(running: Instance) -> None:
    assert running.process is not None
    message = refused_up(running, "--port", "0")
    assert f"kill {running.process.pid}" in message
    assert "--data" in message
    assert running.is_healthy()


def test_a_taken_port_is_refused_with_the_way_out(running: Instance) -> None:
    other = Instance(running.data.parent / "other", port=0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        message = refused_up(other, "--port", str(taken.getsockname()[1]))
    assert "--port" in message
    assert not leftovers(other)


def test_a_port_that_is_no_number_is_refused(running: Instance) -> None:
    command = [sys.executable, "manage.py", "up", "--port", "eighty"]
    result = subprocess.run(command, cwd=ROOT, env=running.environment(), capture_output=True, check=False)
    assert result.returncode == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_without_orphans_and_starts_again(running: Instance, number: int) -> None:
    before = running.facts
    assert running.stop(number) == 0
    assert not leftovers(running)
    assert not (running.data / "instance.json").exists()
    running.up()
    assert running.facts["redis_url"] == before["redis_url"]


def test_it_waits_for_nobody_who_does_not_listen_to_sigterm(running: Instance) -> None:
    """Nor longer than five seconds for all: see test_all_of_up_stops_within_five_seconds."""
    for pid in running.pids().values():
        psutil.Process(pid).suspend()
    assert running.stop() == 0
    assert not leftovers(running)
    told = running.errors.read_text()
    assert all(f"{name} did not stop within" in told for name in SERVICES)


def test_it_can_be_stopped_while_it_starts(stopped: Instance) -> None:
    stopped.launch()
    wait_until(lambda: leftovers(stopped), what="a first child")
    assert stopped.stop() == 0
    assert not leftovers(stopped)


def test_processes_that_outlived_a_crash_are_ended_by_the_next_up(stopped: Instance) -> None:
    # Where the kernel has no death signal (not Linux), children survive; here a look-alike does.
    survivor = subprocess.Popen(
        ["sleep", "3600"],
        env=stopped.environment() | {"CHATSITE_OWNED_BY": str(stopped.data)},
        # A shell that runs the tests in the background has made all its children ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    stopped.up()
    assert survivor.wait(timeout=PATIENCE) == -signal.SIGINT
    assert "Ended 1 process" in stopped.errors.read_text()


def test_kill_9_leaves_no_orphan_and_the_next_up_finds_everything(running: Instance) -> None:
    key = running.key()
    running.kill_everything()
    wait_until(lambda: not leftovers(running), what="the children end by themselves")
    running.up()
    assert key.split(":")[0] in str(running.manage("apikey", "list"))


def test_kill_9_of_everything_at_once_does_not_block_the_next_up(running: Instance) -> None:
    assert running.process is not None
    victims = [psutil.Process(pid) for pid in running.pids().values()]
    for victim in [psutil.Process(running.process.pid), *victims]:
        victim.kill()
    running.process.wait(timeout=PATIENCE)
    running.up()
    assert running.is_healthy()
