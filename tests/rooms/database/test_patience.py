"""A Postgres that hangs costs a while, not a thread for ever."""

from __future__ import annotations

import os
import signal
from typing import Any

import psycopg
import pytest
from asgiref.sync import sync_to_async
from django.core.management import call_command
from django.db import OperationalError, connection, connections

from chatsite.management.commands import gateway
from integrations.management.commands import worker
from integrations.worker.wakeups import connect_parameters
from rooms.database import patience
from rooms.database.patience import PatientConnection, limit_statements
from rooms.log.outcomes import Outcome, OutcomeKind
from rooms.models import Room
from rooms.publishing import acceptor
from rooms.publishing.accept import accept
from rooms.publishing.acceptor import Acceptor
from tests.rooms.conftest import draft
from tests.rooms.reviewers import Obedient
from tests.services import EXTERNAL_POSTGRES


class Stop(Exception):
    """Ends a command where it would begin to serve."""


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch, settings: Any) -> dict[str, Any]:
    """What the process connects with, as the settings have it before any limit."""
    options: dict[str, Any] = {"pool": {}}
    monkeypatch.setitem(connections.databases["default"], "OPTIONS", options)
    settings.DATABASE_STATEMENT_SECONDS = 2.5
    return options


def connect(options: str) -> psycopg.Connection[Any]:
    return PatientConnection.connect(**connect_parameters() | {"options": options}, autocommit=True)


def limits(session: psycopg.Connection[Any]) -> list[str]:
    return [
        str(session.execute(f"SHOW {name}").fetchone()[0])  # type: ignore[index]
        for name in ("statement_timeout", "idle_in_transaction_session_timeout", "work_mem")
    ]


def test_limits_join_what_the_address_says(options: dict[str, Any]) -> None:
    options["options"] = "-c work_mem=5MB"
    limit_statements()
    assert options["options"].endswith("-c work_mem=5MB")
    assert options["pool"]["connection_class"] is PatientConnection


@pytest.mark.parametrize(("own", "seconds"), [("-c statement_timeout=9000", 2.5), ("-c work_mem=5MB", 0.0)])
def test_an_address_with_limits_of_its_own_and_no_limit_at_all_are_respected(
    options: dict[str, Any], settings: Any, own: str, seconds: float
) -> None:
    options["options"], settings.DATABASE_STATEMENT_SECONDS = own, seconds
    limit_statements()
    assert options == {"options": own, "pool": {}}


def test_postgres_takes_the_limits(db: None, options: dict[str, Any]) -> None:
    options["options"] = "-c work_mem=5MB"
    limit_statements()
    with connect(options["options"]) as session:
        assert limits(session) == ["2500ms", "2500ms", "5MB"]


@pytest.mark.parametrize("name", ["gateway", "worker"])
def test_who_serves_people_is_limited_and_nobody_else(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop() -> None:
        raise Stop

    for module in (gateway, worker):
        monkeypatch.setattr(module, "limit_statements", stop)
    with pytest.raises(Stop):
        call_command(name)
    call_command("check")


@pytest.mark.skipif(EXTERNAL_POSTGRES, reason="its processes are not ours to stop")
def test_a_server_that_says_nothing_is_given_up(db: None, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.DATABASE_STATEMENT_SECONDS = 0.1
    monkeypatch.setattr(patience, "GRACE_SECONDS", 0.1)
    session = connect("-c statement_timeout=100")
    process = session.info.backend_pid
    os.kill(process, signal.SIGSTOP)
    try:
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")
        assert session.closed
    finally:
        os.kill(process, signal.SIGCONT)


@pytest.mark.django_db(transaction=True)
async def test_accepting_tries_again_what_postgres_canceled(
    obedient: Obedient, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = await sync_to_async(Room.objects.create)(name="lobby")
    holder = psycopg.connect(**connect_parameters())
    holder.execute("SELECT FROM rooms_room FOR UPDATE")
    canceled: list[type] = []

    def accept_briefly(*args: Any, **kwargs: Any) -> list[Outcome]:
        with connection.cursor() as cursor:
            cursor.execute("SET statement_timeout = '100ms'")
        try:
            return accept(*args, **kwargs)
        except OperationalError as error:
            canceled.append(type(error.__cause__))
            holder.rollback()
            raise
        finally:
            with connection.cursor() as cursor:
                cursor.execute("RESET statement_timeout")

    monkeypatch.setattr(acceptor, "accept", accept_briefly)
    accepting = Acceptor()
    outcomes = await accepting.submit([draft(room, "hello")])
    await accepting.close()
    holder.close()

    assert [outcome.kind for outcome in outcomes] == [OutcomeKind.PUBLISHED]
    assert canceled == [psycopg.errors.QueryCanceled]
