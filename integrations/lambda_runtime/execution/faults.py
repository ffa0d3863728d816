"""Faults on purpose: latency and errors that are drawn for each call from rates and a seed. Pure.

The n-th call of two runs with the same seed and the same rates meets the same fate, however fast the calls come.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

MAX_LATENCY_MS = 900_000.0


class FaultError(ValueError):
    """The faults are impossible as described; the message says what to change."""


class Fault(StrEnum):
    """The faults that a call may meet instead of the function."""

    THROTTLE = "throttle"
    ERROR = "error"
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """The fate of one call: a wait in front of the function, and perhaps a fault in its place."""

    seconds: float = 0.0
    fault: Fault | None = None


NO_FATE = Fate()


@dataclass(frozen=True, kw_only=True)
class Faults:
    """The share of calls that meet each fault, from 0 to 1, and the range of the latency. Raises FaultError."""

    latency_ms: tuple[float, float] = (0.0, 0.0)
    throttle_rate: float = 0.0
    error_rate: float = 0.0
    timeout_rate: float = 0.0

    def __post_init__(self) -> None:
        low, high = self.latency_ms
        if not 0 <= low <= high <= MAX_LATENCY_MS:
            raise FaultError(f"latency: MS or MS..MS, from 0 to {MAX_LATENCY_MS:.0f}, the smaller number first")
        for name, rate in self.rates.items():
            if not 0 <= rate <= 1:
                raise FaultError(f"the rate of {name}s is from 0 to 1")
        if sum(self.rates.values()) > 1 + 1e-9:
            raise FaultError("the rates of throttles, errors and timeouts together are at most 1")

    @property
    def rates(self) -> dict[Fault, float]:
        """The share of calls that meet each fault."""
        return {
            Fault.THROTTLE: self.throttle_rate,
            Fault.ERROR: self.error_rate,
            Fault.TIMEOUT: self.timeout_rate,
        }


class Dice:
    """Draws the fate of one call after the other; `faults` may be exchanged at any time."""

    def __init__(self, faults: Faults | None = None, *, seed: int | None = None) -> None:
        self.faults = faults or Faults()
        self.met: Counter[Fault] = Counter()
        self.rolls = 0
        self.reseed(seed)

    def reseed(self, seed: int | None) -> None:
        """Begin the sequence of a seed, or without one a sequence that never comes again."""
        self._random = random.Random(seed)

    def roll(self, *, timeout_seconds: float) -> Fate:
        """Return the fate of the next call to a function with this timeout."""
        # Two draws a call, whatever the rates are: changing one of them leaves the sequence as it is.
        chance, share = self._random.random(), self._random.random()
        self.rolls += 1
        low, high = self.faults.latency_ms
        seconds = (low + (high - low) * share) / 1000
        fault = self._fault(chance)
        if fault is Fault.THROTTLE:
            seconds = 0.0
        elif fault is Fault.TIMEOUT or seconds >= timeout_seconds:
            fault, seconds = Fault.TIMEOUT, timeout_seconds
        if fault is not None:
            self.met[fault] += 1
        return Fate(seconds=seconds, fault=fault) if fault or seconds else NO_FATE

    def _fault(self, chance: float) -> Fault | None:
        for fault, rate in self.faults.rates.items():
            if chance < rate:
                return fault
            chance -= rate
        return None


def parse_latency(text: str) -> tuple[float, float]:
    """Return the range of `MS` or `MS..MS`. Raises FaultError."""
    low, _, high = text.partition("..")
    try:
        return float(low), float(high or low)
    except ValueError:
        raise FaultError(f"latency {text!r}: write MS or MS..MS, such as 50 or 20..200") from None
