"""Limits the calls of one rule's target: a limit that adapts to the target, and a circuit breaker. Pure.

The limit moves like TCP's window: one more after each round of successes, half after a 429, a 5xx or no answer, at most
once a round trip. The breaker opens when most calls fail: then only single probes are made until one succeeds. All
times are seconds of a monotonic clock, passed in by the caller.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum

WINDOW_CALLS = 20  # the breaker judges by the last so many calls
LEAST_CALLS = 5  # and does not open after fewer
OPENS_AT = 0.5  # share of failures
DECREASE = 0.5
FIRST_PAUSE_SECONDS = 1.0
HOLD_MAX_SECONDS = 3600.0


class CallEnd(Enum):
    """How a call ended, for the throttle of its target."""

    WELL = "well"  # an answer, whatever it says
    TOO_MUCH = "too much"  # 429: the target works, and asks for fewer calls
    FAILED = "failed"  # 5xx, or no answer
    UNKNOWN = "unknown"  # cut short by us, or never sent: says nothing about the target


class Breaker(Enum):
    """The state of the circuit breaker. The values are those of integrations.models.BreakerState."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class CallStart:
    """When a call began, and whether it is a probe."""

    at: float
    is_probe: bool


@dataclass(kw_only=True)
class Throttle:
    """The throttle of one target in one worker. `cap`: the highest limit."""

    cap: int
    longest_pause: float  # seconds between two probes
    limit: float = 0.0
    under_way: int = 0
    breaker: Breaker = Breaker.CLOSED
    opened_at: float = 0.0
    probe_at: float = 0.0
    held_until: float = 0.0  # by Retry-After
    _pause: float = FIRST_PAUSE_SECONDS
    _reduced_at: float = field(default=-1.0, repr=False)
    _last: deque[CallEnd] = field(default_factory=lambda: deque(maxlen=WINDOW_CALLS), repr=False)

    def __post_init__(self) -> None:
        self.limit = self.limit or float(self.cap)

    def free(self, now: float) -> int:
        """Return how many calls may begin now: none while held back, one probe while the breaker is open."""
        if now < self.held_until:
            return 0
        if self.breaker is Breaker.CLOSED:
            return max(0, min(self.cap, int(self.limit)) - self.under_way)
        return 1 if self.under_way == 0 and now >= self.probe_at else 0

    def wait(self, now: float) -> float | None:
        """Return the seconds until calls may begin again; None if they are not held back."""
        until = max(self.held_until, self.probe_at if self.breaker is not Breaker.CLOSED else 0.0)
        return until - now if until > now else None

    def begin(self, now: float) -> CallStart:
        """Count a call that begins. Pass the result to `end`."""
        self.under_way += 1
        is_probe = self.breaker is not Breaker.CLOSED
        if is_probe:
            self.breaker = Breaker.HALF_OPEN
        return CallStart(now, is_probe)

    def end(self, begun: CallStart, ended: CallEnd, now: float, *, hold: float | None = None) -> bool:
        """Count a call that ended; `hold`: seconds of its Retry-After. Return whether this closed the breaker."""
        was_full = self.under_way >= int(self.limit) // 2
        self.under_way -= 1
        if hold:
            self.held_until = max(self.held_until, now + min(hold, HOLD_MAX_SECONDS))
        if ended is CallEnd.UNKNOWN:
            self._stay_open(begun, now)
            return False
        if self.breaker is not Breaker.CLOSED:
            return self._probed(ended, now) if begun.is_probe or ended is CallEnd.WELL else False
        self._last.append(ended)
        if ended is CallEnd.WELL:
            # Successes below the limit do not prove that the target takes more.
            self.limit = min(float(self.cap), self.limit + 1.0 / self.limit) if was_full else self.limit
        else:
            self._reduce(begun, now)
            if self._is_down():
                self._open(now)
        return False

    def _reduce(self, begun: CallStart, now: float) -> None:
        # Calls that began before the last reduction were made under the old limit.
        if begun.at >= self._reduced_at:
            self.limit, self._reduced_at = max(1.0, self.limit * DECREASE), now

    def _is_down(self) -> bool:
        if len(self._last) < LEAST_CALLS:
            return False
        # A target that answers 429 gets fewer calls; it counts as down only if no call succeeds at a limit of 1.
        failed = self._last.count(CallEnd.FAILED)
        return failed >= max(LEAST_CALLS, len(self._last) * OPENS_AT) or (
            CallEnd.WELL not in self._last and self.limit <= 1.0
        )

    def _open(self, now: float) -> None:
        self.breaker, self.opened_at, self._pause = Breaker.OPEN, now, FIRST_PAUSE_SECONDS
        self.probe_at = now + self._pause
        self.limit = 1.0
        self._last.clear()

    def _probed(self, ended: CallEnd, now: float) -> bool:
        if ended is CallEnd.WELL:
            self.breaker, self.opened_at, self.held_until = Breaker.CLOSED, 0.0, 0.0
            self._last.clear()
            return True
        self.breaker = Breaker.OPEN
        self._pause = min(self._pause * 2, max(self.longest_pause, FIRST_PAUSE_SECONDS))
        self.probe_at = now + self._pause
        return False

    def _stay_open(self, begun: CallStart, now: float) -> None:
        """Repeat a probe without a result after the same pause."""
        if begun.is_probe and self.breaker is Breaker.HALF_OPEN:
            self.breaker, self.probe_at = Breaker.OPEN, now + self._pause
