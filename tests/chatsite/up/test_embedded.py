"""The embedded servers on folders that other things have happened to."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from chatsite.up.embedded import Postgres, system_user
from chatsite.up.processes import popen_options
from tests.instance import wait_until
from tests.patience import PATIENCE


@contextmanager
def serving(postgres: Postgres) -> Iterator[subprocess.Popen[bytes]]:
    """Run a Postgres until the block ends."""
    user = system_user()
    postgres.prepare(user)
    options = popen_options(orphan_signal=9, user=user)
    process = subprocess.Popen(postgres.command(), cwd="/", stderr=subprocess.DEVNULL, **options)
    try:
        wait_until(postgres.is_ready, what="Postgres answers")
        yield process
    finally:
        process.kill()
        process.wait(timeout=PATIENCE)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="chatsite-tests-", ignore_cleanup_errors=True) as name:
        yield Path(name).resolve()


def test_what_was_committed_survives_kill_9(folder: Path) -> None:
    postgres = Postgres(data=folder)
    with serving(postgres), psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
    with serving(postgres), psycopg.connect(postgres.url) as connection:
        assert connection.execute("SELECT one FROM kept").fetchall() == [(1,)]


def test_a_commit_is_on_disk_before_it_is_answered(folder: Path) -> None:
    postgres = Postgres(data=folder)
    with serving(postgres), psycopg.connect(postgres.url) as connection:
        for name in ("fsync", "synchronous_commit", "full_page_writes"):
            assert connection.execute(f"SHOW {name}").fetchone() == ("on",)


def test_a_failing_statement_keeps_the_texts_of_messages_out_of_the_log(folder: Path) -> None:
    postgres = Postgres(data=folder)
    with serving(postgres), psycopg.connect(postgres.url) as connection:
        assert connection.execute("SHOW log_min_error_statement").fetchone() == ("panic",)
        assert connection.execute("SHOW log_error_verbosity").fetchone() == ("terse",)


@pytest.mark.parametrize("lock", ["postgres/postmaster.pid", "socket/.s.PGSQL.5432.lock"])
def test_a_lock_file_whose_number_now_belongs_to_a_stranger_does_not_block_the_start(folder: Path, lock: str) -> None:
    postgres = Postgres(data=folder)
    postgres.prepare(system_user())
    # Of the same user as the server: another user's process Postgres itself takes for none.
    stranger = subprocess.Popen(["sleep", "60"], cwd="/", user=system_user())
    started, port, addresses = str(int(time.time())), "5432", [str(postgres.socket_folder), "", ""]
    lines = [str(stranger.pid), str(postgres.folder), started, port, *addresses]
    (folder / lock).write_text("\n".join(lines))
    try:
        with serving(postgres):
            assert postgres.is_ready()
    finally:
        stranger.kill()
        stranger.wait()


def test_a_folder_too_deep_for_a_unix_socket_works_all_the_same(folder: Path) -> None:
    deep = folder / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    postgres = Postgres(data=deep, durable=False)
    assert len(str(postgres.socket_folder)) < 100
    with serving(postgres):
        assert postgres.is_ready()


def test_a_half_made_cluster_is_made_again(folder: Path) -> None:
    data = folder / "half"
    (data / "postgres.new").mkdir(parents=True)
    (data / "postgres.new" / "PG_VERSION").write_text("18\n")
    postgres = Postgres(data=data, durable=False)
    with serving(postgres):
        assert postgres.is_ready()
