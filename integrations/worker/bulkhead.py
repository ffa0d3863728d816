"""Divides the calls of one worker among rules: a throttle for each rule, and a bound on its share of the worker.

A rule may have at most RULE_SHARE / (1 - RULE_SHARE) times as many calls under way as stay free. So a target that hangs
occupies at most RULE_SHARE of a worker, a second one the same share of the rest, and a rule without calls under way may
always begin one while any is free.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings

from integrations.models import IntegrationRule, When
from integrations.outbox import Capacity
from integrations.worker.throttle import Breaker, CallEnd, CallStart, Throttle

BREAKER_PROBE_SECONDS = 10.0  # the longest pause between two probes of a target that is down

RULE_SHARE = 0.75
BATCHES_UNDER_WAY = 4  # calls of one batched rule outside lanes; more calls would mean smaller batches
LEASE_MARGIN_SECONDS = 2.0
PROBES_A_BUDGET = 5  # so many probes within a rule's budget: messages are saved if the target comes back meanwhile


@dataclass(frozen=True, kw_only=True)
class CallTarget:
    """The rule whose target is called, and its throttle: the deliveries' own rule, or its stand-in."""

    rule: IntegrationRule
    throttle: Throttle
    by_stand_in: bool = False


class Bulkhead:
    """The throttles of one worker. Only the event loop's thread uses it; times are of the monotonic clock."""

    def __init__(self) -> None:
        self.rules: Mapping[int, IntegrationRule] = {}
        self.under_way = 0
        self._concurrency: int = settings.DELIVERY_CONCURRENCY
        self._throttles: dict[int, tuple[datetime, Throttle]] = {}
        self._stand_ins: dict[int, IntegrationRule] = {}
        # Rules with deliveries from before they were changed: (rule, whether those are in lanes).
        self._leftovers: set[tuple[int, bool]] = set()

    @property
    def free(self) -> int:
        """How many more calls may begin, over all rules."""
        return self._concurrency - self.under_way

    @property
    def throttles(self) -> Iterable[tuple[int, Throttle]]:
        """The throttles by rule."""
        return ((rule_id, throttle) for rule_id, (_, throttle) in self._throttles.items())

    def learn(self, rules: Mapping[int, IntegrationRule]) -> bool:
        """Replace the rules. A changed rule gets a new throttle. Return whether any rule has changed."""
        if rules is self.rules:
            return False
        self.rules = rules
        self._stand_ins = {
            rule.shadow_of_id: rule
            for rule in rules.values()
            if rule.stands_in and rule.enabled and rule.shadow_of_id is not None
        }
        former, self._throttles = self._throttles, {}
        for rule in rules.values():
            kept = former.get(rule.pk)
            if kept is None or kept[0] != rule.changed_at:
                cap = rule.concurrency or settings.DELIVERY_RULE_CONCURRENCY
                kept = (rule.changed_at, Throttle(cap=cap, longest_pause=0.0))
            kept[1].longest_pause = longest_pause_of(rule, has_stand_in=rule.pk in self._stand_ins)
            self._throttles[rule.pk] = kept
        return True

    def capacities(self, now: float, *, lanes: bool, every: bool) -> tuple[list[Capacity], bool]:
        """Return the calls to claim for each rule, in lanes or outside, and whether a rule waits for a free call.

        `every`: include rules that may have such deliveries only from before they were changed.
        """
        found, is_short = [], False
        for rule in self.rules.values():
            if not rule.enabled or not (every or uses_lanes(rule) == lanes or (rule.pk, lanes) in self._leftovers):
                continue
            calls = self._calls(rule, now, lanes=lanes)
            is_short |= calls <= 0 and self._is_up(rule, now)
            if calls > 0:
                lease = timeout_of(rule) + LEASE_MARGIN_SECONDS
                if lanes:
                    lease = max(lease, settings.DELIVERY_LEASE_SECONDS)
                found.append(Capacity(rule_id=rule.pk, calls=calls, lease=lease))
        return found, is_short

    def note_taken(self, capacities: Iterable[Capacity], taken: Collection[int], *, lanes: bool) -> None:
        """Remember which rules (`taken`) still had deliveries of the kind, lanes or single, that they no longer use."""
        for capacity in capacities:
            rule = self.rules.get(capacity.rule_id)
            if capacity.rule_id in taken and rule is not None and uses_lanes(rule) != lanes:
                self._leftovers.add((capacity.rule_id, lanes))
            else:
                self._leftovers.discard((capacity.rule_id, lanes))

    def wait(self, now: float) -> float | None:
        """Return the seconds until the next rule that is held back may be called; None if none is held back."""
        waits = [wait for _, throttle in self._throttles.values() if (wait := throttle.wait(now)) is not None]
        return min(waits, default=None)

    def target_of(self, rule: IntegrationRule, now: float, *, by_stand_in: bool = False) -> CallTarget | None:
        """Return the target to call for a rule: its own, its stand-in while its own is down, or None for now.

        `by_stand_in`: prefer the stand-in, because the rule's own target has just failed on this message.
        """
        own = self._throttle_of(rule)
        if own is None:
            return None
        if by_stand_in and (ready := self.stand_in_of(rule, now)) is not None:
            return ready
        if own.free(now) > 0:
            return CallTarget(rule=rule, throttle=own)
        return None if self._is_up(rule, now) else self.stand_in_of(rule, now)

    def stand_in_of(self, rule: IntegrationRule, now: float) -> CallTarget | None:
        """Return the stand-in of a rule; None if it has none that may be called now."""
        stand_in = self._stand_ins.get(rule.pk)
        throttle = self._throttle_of(stand_in) if stand_in is not None else None
        if stand_in is None or throttle is None or throttle.free(now) <= 0:
            return None
        return CallTarget(rule=stand_in, throttle=throttle, by_stand_in=True)

    def begin(self, target: CallTarget, now: float) -> CallStart:
        """Count a call that begins."""
        self.under_way += 1
        return target.throttle.begin(now)

    def end(
        self, target: CallTarget, begun: CallStart, ended: CallEnd, now: float, *, hold: float | None = None
    ) -> bool:
        """Count a call that ended. Return whether its end closed the target's breaker."""
        self.under_way -= 1
        return target.throttle.end(begun, ended, now, hold=hold)

    def _calls(self, rule: IntegrationRule, now: float, *, lanes: bool) -> int:
        own = self._throttle_of(rule)
        if own is None:
            return 0
        calls, busy = own.free(now), own.under_way
        stand_in = None if self._is_up(rule, now) else self.stand_in_of(rule, now)
        if stand_in is not None:
            calls += stand_in.throttle.free(now)
            busy += stand_in.throttle.under_way
        share = int(self.free * RULE_SHARE - busy * (1 - RULE_SHARE))
        if busy == 0:
            share = max(share, 1)
        if rule.batched and not lanes:
            share = min(share, BATCHES_UNDER_WAY - busy)
        return min(calls, share, self.free)

    def _is_up(self, rule: IntegrationRule, now: float) -> bool:
        """Return whether a rule's target is neither down nor held back by Retry-After."""
        own = self._throttle_of(rule)
        return own is not None and own.breaker is Breaker.CLOSED and now >= own.held_until

    def _throttle_of(self, rule: IntegrationRule) -> Throttle | None:
        found = self._throttles.get(rule.pk)
        return found[1] if found else None


def longest_pause_of(rule: IntegrationRule, *, has_stand_in: bool) -> float:
    """Return the longest pause (seconds) between two probes: for rules before publish a part of their budget."""
    longest: float = BREAKER_PROBE_SECONDS
    # With a stand-in nobody waits for the target to come back, and each probe delays one author's message.
    if rule.when != When.BEFORE or rule.is_shadow or has_stand_in:
        return longest
    return min(longest, (rule.budget_seconds or settings.REVIEW_DEADLINE_SECONDS) / PROBES_A_BUDGET)


def uses_lanes(rule: IntegrationRule) -> bool:
    """Return whether a rule's deliveries wait in lanes."""
    return rule.ordered and rule.when == When.AFTER and not rule.is_shadow


def timeout_of(rule: IntegrationRule) -> float:
    """Return the longest time (seconds) for one call of a rule."""
    return float(rule.timeout_seconds or settings.DELIVERY_TIMEOUT_SECONDS)
