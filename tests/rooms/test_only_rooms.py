"""The app `rooms` needs none of the apps that build on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

ROOT = Path(__file__).parents[2]
NAME = "only_rooms"


@pytest.fixture
def database(postgres: str) -> Iterator[str]:
    """The URL of an empty database."""
    with psycopg.connect(postgres, autocommit=True) as server:
        server.execute(f"DROP DATABASE IF EXISTS {NAME} WITH (FORCE)")
        server.execute(f"CREATE DATABASE {NAME}")
        yield urlsplit(postgres)._replace(path=f"/{NAME}").geturl()
        server.execute(f"DROP DATABASE {NAME} WITH (FORCE)")


def test_rooms_publishes_and_decides_without_the_other_apps(database: str) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "tests.rooms.only_rooms_process"],
        cwd=ROOT,
        env=os.environ | {"DATABASE_URL": database, "DJANGO_SETTINGS_MODULE": "tests.rooms.only_rooms_settings"},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout) == {
        "apps": ["rooms"],
        "accepted": ["published"],
        "decided": ["unknown"],
        "log": ["hello"],
    }
