"""The control path: faults read and changed while the function runs, by programs on this machine alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from integrations.lambda_runtime.endpoints.control import PATH, Control
from integrations.lambda_runtime.execution.faults import Dice
from integrations.lambda_runtime.http_message import HttpRequest
from integrations.lambda_runtime.server import Options

Serve = Callable[..., Awaitable[Any]]
FINE = "def handler(event, context):\n    return {'fine': True}\n"


async def test_faults_are_changed_while_the_function_runs(serve: Serve) -> None:
    served = await serve("fine.py", FINE, served=Options(control=True))
    path = PATH[1:]
    answer = await served.client.post(path, json={"errorRate": 1, "latency": "1..2", "seed": 7})
    assert (answer.status_code, answer.json()["errorRate"], answer.json()["latency"]) == (200, 1, "1..2")
    assert (await served.get()).status_code == 502
    assert (await served.client.post(path, json={"errorRate": 0})).json()["latency"] == "1..2"
    assert (await served.get()).status_code == 200
    shown = (await served.get(path)).json()
    assert (shown["calls"], shown["met"]["error"]) == (2, 1)


async def test_without_the_option_the_control_path_is_the_functions_own(serve: Serve) -> None:
    served = await serve("fine.py", FINE)
    assert (await served.get(PATH[1:])).json() == {"fine": True}


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, 200),
        ({"source_ip": "::1", "headers": (("host", "[::1]:9100"),)}, 200),
        ({"source_ip": "192.0.2.1"}, 403),
        ({"source_ip": ""}, 403),
        ({"headers": (("host", "evil.example"),)}, 403),
        ({"headers": (("host", "["),)}, 403),
        ({"headers": (("host", "localhost"), ("origin", "http://localhost"))}, 403),
        ({"method": "PUT"}, 404),
        ({"target": "/_lambda/else"}, 404),
        ({"body": b'{"errorRate": 2}'}, 400),
        ({"body": b'{"errorrate": 1}'}, 400),
        ({"body": b'{"latency": "x"}'}, 400),
        ({"body": b"\xff"}, 400),
    ],
)
def test_only_programs_on_this_machine_may_change_faults(changes: dict[str, Any], status: int) -> None:
    fine: dict[str, Any] = {
        "method": "POST",
        "target": PATH,
        "headers": (("host", "127.0.0.1:9100"),),
        "source_ip": "127.0.0.1",
        "body": b'{"errorRate": 0.5}',
    }
    dice = Dice()
    assert Control(dice).handle(HttpRequest(**{**fine, **changes})).status == status
    assert dice.faults.error_rate == (0.5 if status == 200 else 0)
