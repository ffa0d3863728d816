"""What every test may ask for. The servers themselves are in tests/services.py."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from django.conf import settings as django_settings
from django.core.management.commands import flush
from django.db import connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from playwright.async_api import Browser, async_playwright
from pytest_django.plugin import DjangoDbBlocker

from tests.chromium import Chromium, find_chromium
from tests.instance import Instance

FILLED_BY_MIGRATIONS = {"django_content_type", "auth_permission"}
# How long one example takes says more about the machine than about the code.
hypothesis_settings.register_profile("any speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("any speed")


@pytest.fixture(scope="session", autouse=True)
def _quick_passwords() -> None:
    """What makes a password slow to guess makes tests slow too."""
    django_settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(scope="session", autouse=True)
def _quick_flush() -> Iterator[None]:
    """After a test that commits, empty the tables that it filled, and leave alone the list of permissions.

    Django empties all tables, and writes that list again: 0.1 s of the processor after each of 200 tests.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flush, "sql_flush", truncate_used)
        patch.setattr(flush, "emit_post_migrate_signal", lambda *args, **options: None)
        yield


def truncate_used(style: object, connection: BaseDatabaseWrapper, **options: object) -> list[str]:
    """Return the statement that empties all tables that hold rows, but for those that migrations filled.

    The locks wait for transactions that a test has left behind, which may yet fill a table.
    """
    found = connection.introspection.django_table_names(only_existing=True, include_views=False)
    tables = [name for name in found if name not in FILLED_BY_MIGRATIONS]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"LOCK TABLE {', '.join(tables)} IN SHARE MODE")
        cursor.execute(" UNION ALL ".join(f"(SELECT '{name}' FROM {name} LIMIT 1)" for name in tables))
        used = [name for (name,) in cursor.fetchall()]
    return [f"TRUNCATE {', '.join(used)} CASCADE"] if used else []


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
def pair() -> Iterator[Instance]:
    """An instance with two gateways, which may call endpoints on this machine. Tests kill its processes: see faults."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEBHOOK_ALLOW_PRIVATE", "127.0.0.1/32")
        with Instance.temporary(gateways=2) as running:
            yield running


@pytest.fixture(scope="session")
def pair_key(pair: Instance) -> str:
    """A key for everything on the pair."""
    return pair.key()


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
