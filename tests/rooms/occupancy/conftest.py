"""What tests of occupancy share."""

from __future__ import annotations

import pytest

from rooms.occupancy import store


@pytest.fixture(autouse=True)
def _gateways_live_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway that a test makes does not fall silent before a slow machine has come to the end of the test."""
    monkeypatch.setattr(store, "ALIVE_SECONDS", 600.0)
    monkeypatch.setattr(store, "FORGET_SECONDS", 1200.0)
