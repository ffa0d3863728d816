"""What is read from the addresses in the environment."""

from __future__ import annotations

from typing import Any

from django.db import connection

from chatsite.settings import parse_database_url


def options_of(url: str) -> dict[str, Any]:
    return dict(parse_database_url(url)["OPTIONS"])


def test_a_database_server_that_is_gone_without_a_word_is_given_up_soon() -> None:
    options = options_of("postgresql://u:p@db/chat")
    idle, interval, count = (int(options[f"keepalives_{name}"]) for name in ("idle", "interval", "count"))

    assert idle + interval * count <= 30
    assert int(options["tcp_user_timeout"]) <= 30_000
    assert int(options["connect_timeout"]) <= 10


def test_the_address_may_say_otherwise() -> None:
    assert options_of("postgresql://u@db/chat?tcp_user_timeout=5000&sslmode=require")["tcp_user_timeout"] == "5000"


def test_the_driver_knows_these_options(db: None) -> None:
    connection.ensure_connection()
    assert connection.connection is not None
    assert connection.connection.info.get_parameters()["tcp_user_timeout"] == "20000"
