"""What every test may ask for. The servers themselves are in tests/services.py."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def django_db_modify_db_settings(postgres: str) -> None:
    """Pytest-django asks for this before it makes the test database: the server is up by then.

    It stands here and not beside `postgres`: only a conftest overrides a fixture of a plugin.
    """
