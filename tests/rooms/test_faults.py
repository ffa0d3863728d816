"""Unexpected exceptions leave a traceback and a count."""

from __future__ import annotations

import pytest

from rooms import faults


def test_a_fault_is_logged_with_its_traceback_and_counted_by_place(caplog: pytest.LogCaptureFixture) -> None:
    before = faults.counts().get("a test", 0)
    for number in range(2):
        try:
            {}[number]
        except KeyError:
            faults.record("a test")

    assert faults.counts()["a test"] == before + 2
    assert caplog.text.count("Traceback (most recent call last)") == 2
    assert "KeyError: 1" in caplog.text
