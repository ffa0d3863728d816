"""What the tests of the official SDKs share: an API key of the shared instance."""

from __future__ import annotations

import pytest

from tests.instance import Instance


@pytest.fixture(scope="session")
def key(instance: Instance) -> str:
    """A key for everything."""
    return instance.key()
