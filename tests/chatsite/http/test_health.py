"""GET /healthz says whether Postgres answers, whatever keeps it from answering."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test import RequestFactory

from chatsite.http.health import healthz
from rooms import faults


def status() -> int:
    return healthz(RequestFactory().get("/healthz")).status_code


def test_a_gateway_is_healthy_while_postgres_answers(db: None) -> None:
    assert status() == 200


@pytest.mark.parametrize(("error", "recorded"), [(OperationalError("away"), 0), (KeyError("a fault"), 1)])
def test_it_is_not_where_postgres_does_not_answer_and_a_fault_is_told(
    monkeypatch: pytest.MonkeyPatch, error: Exception, recorded: int
) -> None:
    def fail() -> Any:
        raise error

    monkeypatch.setattr(connection, "cursor", fail)
    before = faults.counts().get("health check", 0)

    assert status() == 503
    assert faults.counts().get("health check", 0) == before + recorded
