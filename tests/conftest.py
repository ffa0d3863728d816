"""What every test may ask for. The servers themselves are in tests/services.py."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from django.db import connection
from playwright.async_api import Browser, async_playwright
from pytest_django.plugin import DjangoDbBlocker

from tests.chromium import Chromium, find_chromium
from tests.instance import Instance


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None, postgres: str) -> None:
    """Pytest-django asks for this before it makes the test database: the server is up by then.

    It stands here and not beside `postgres`: only a conftest overrides a fixture of a plugin.
    """


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """End what the threads of rooms.database.threads left open: a database with sessions on it cannot be dropped."""
    yield
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


@pytest.fixture(scope="session")
def instance() -> Iterator[Instance]:
    """A whole running server, made by `manage.py up` in a folder of its own; all tests share it."""
    with Instance.temporary() as running:
        yield running


@pytest.fixture(scope="session")
def chromium() -> Chromium:
    """The Chromium of this machine."""
    return find_chromium()


@pytest.fixture
async def browser(chromium: Chromium) -> AsyncIterator[Browser]:
    """A fresh browser; each `await browser.new_context()` in it is one person."""
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(**chromium.launch_options())
        yield running
        await running.close()
