"""Faults on purpose: what is drawn, and what a caller then sees."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integrations.lambda_runtime.execution.faults import Dice, Fate, Fault, FaultError, Faults, parse_latency

Serve = Callable[..., Awaitable[Any]]
FINE = "def handler(event, context):\n    return {'fine': True}\n"
rates = st.floats(0, 1 / 3)


@settings(deadline=None)
@given(seed=st.integers(), throttle=rates, error=rates, timeout=rates, low=st.floats(0, 50), more=st.floats(0, 50))
def test_the_same_seed_gives_each_call_the_same_fate(
    seed: int, throttle: float, error: float, timeout: float, low: float, more: float
) -> None:
    faults = Faults(latency_ms=(low, low + more), throttle_rate=throttle, error_rate=error, timeout_rate=timeout)
    first, second = Dice(faults, seed=seed), Dice(faults, seed=seed)
    drawn = [first.roll(timeout_seconds=3) for _ in range(50)]
    assert drawn == [second.roll(timeout_seconds=3) for _ in range(50)]
    assert all(low / 1000 <= fate.seconds <= (low + more) / 1000 + 1e-9 for fate in drawn if fate.fault is None)
    assert sum(first.met.values()) == sum(fate.fault is not None for fate in drawn)


def test_so_many_calls_meet_a_fault_as_the_rates_say() -> None:
    dice = Dice(Faults(throttle_rate=0.1, error_rate=0.2, timeout_rate=0.3), seed=1)
    met = Counter(dice.roll(timeout_seconds=3).fault for _ in range(10_000))
    shares = {Fault.THROTTLE: 0.1, Fault.ERROR: 0.2, Fault.TIMEOUT: 0.3, None: 0.4}
    assert all(abs(met[fault] / 10_000 - share) < 0.02 for fault, share in shares.items())


def test_a_latency_as_long_as_the_timeout_is_a_timeout() -> None:
    assert Dice(Faults(latency_ms=(3000, 3000))).roll(timeout_seconds=3) == Fate(seconds=3, fault=Fault.TIMEOUT)
    assert Dice(Faults(latency_ms=(2999, 2999))).roll(timeout_seconds=3) == Fate(seconds=2.999)


@pytest.mark.parametrize(("text", "latency"), [("50", (50, 50)), ("0.5..20", (0.5, 20)), ("0", (0, 0))])
def test_a_latency_is_a_number_or_a_range(text: str, latency: tuple[float, float]) -> None:
    assert parse_latency(text) == latency


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: parse_latency("fast"),
        lambda: Faults(latency_ms=(20, 10)),
        lambda: Faults(latency_ms=(0, float("nan"))),
        lambda: Faults(latency_ms=(0, float("inf"))),
        lambda: Faults(error_rate=1.1),
        lambda: Faults(error_rate=float("nan")),
        lambda: Faults(error_rate=0.6, timeout_rate=0.6),
    ],
)
def test_impossible_faults_are_refused(wrong: Callable[[], object]) -> None:
    with pytest.raises(FaultError):
        wrong()


async def test_each_fault_looks_as_it_does_at_aws_and_the_function_is_there_again_after_it(serve: Serve) -> None:
    dice = Dice()
    served = await serve("fine.py", FINE, dice=dice, timeout_seconds=2, concurrency=1)
    for faults, status, line in (
        (Faults(error_rate=1), 502, "Fault: error"),
        (Faults(throttle_rate=1), 429, "Fault: throttle"),
        (Faults(timeout_rate=1), 502, "Fault: timeout"),
    ):
        dice.faults = faults
        began = time.monotonic()
        assert (await served.get()).status_code == status
        assert time.monotonic() - began >= 2 * faults.timeout_rate
        assert line in served.log
        dice.faults = Faults()
        assert (await served.get()).json() == {"fine": True}


async def test_a_latency_takes_a_place_as_a_slow_function_does(serve: Serve) -> None:
    dice = Dice(Faults(latency_ms=(300, 300)))
    served = await serve("fine.py", FINE, dice=dice, concurrency=1)
    slow = asyncio.create_task(served.get())
    while dice.rolls == 0:
        await asyncio.sleep(0)
    assert (await served.get()).status_code == 429
    assert (await slow).status_code == 200
