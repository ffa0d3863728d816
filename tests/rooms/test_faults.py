"""Unexpected exceptions leave a traceback and a count."""

from __future__ import annotations

import ast
import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from channels.exceptions import ChannelFull
from django.db import OperationalError
from redis.exceptions import RedisError

from rooms import faults
from rooms.gateway.rounds import every
from rooms.log import announce
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]


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


def handlers_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield what each handler of all exceptions in a module does, with its line."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ExceptHandler) and ast.unparse(node.type or ast.Name("")) in ("", "Exception"):
            yield node.lineno, "\n".join(map(ast.unparse, node.body))


def test_whoever_catches_all_exceptions_records_them_or_hands_them_on() -> None:
    silent = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sorted((ROOT / "rooms").rglob("*.py"))
        for line, body in handlers_of(path)
        if not any(kept in body for kept in ("faults.record(", "raise", "set_exception(", "_halve("))
    ]
    assert not silent, f"name what may happen (POSTGRES_AWAY, REDIS_AWAY) and call faults.record for the rest: {silent}"


async def test_a_task_of_a_gateway_goes_on_after_a_fault_that_is_counted_and_after_an_outage_that_is_not() -> None:
    raised = iter([KeyError("a fault"), OperationalError("away"), ConnectionError("away"), TimeoutError()])
    done = asyncio.Event()

    async def tend_things() -> None:
        for error in raised:
            raise error
        done.set()

    before = Counter(faults.counts())
    task = asyncio.create_task(every(0.0, tend_things))
    await asyncio.wait_for(done.wait(), PATIENCE)
    task.cancel()
    (place,) = Counter(faults.counts()) - before
    assert place.endswith("tend_things")


async def test_a_broadcast_that_fails_for_another_reason_than_redis_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[Exception] = [KeyError("a fault"), RedisError("away"), ChannelFull(), TimeoutError()]

    async def send(*args: object, **options: object) -> None:
        raise raised.pop(0)

    monkeypatch.setattr(announce, "_send", send)
    before = Counter(faults.counts())
    while raised:
        await announce.send([], [])
    assert Counter(faults.counts()) - before == {"broadcast": 1}
