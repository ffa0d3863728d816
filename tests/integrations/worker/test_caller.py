"""Whom a worker calls, how often, and which verdicts serve without a call. No database, no network."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from integrations.egress.answers import Answer, CallFailed
from integrations.models import IntegrationRule
from integrations.monitoring.traffic import Traffic
from integrations.outbox import Claim
from integrations.outbox.conclusions import ClaimedDelivery, Fate
from integrations.wire import callback_tokens
from integrations.worker.bulkhead import BREAKER_PROBE_SECONDS, Bulkhead
from integrations.worker.call_results import kept_of
from integrations.worker.caller import Caller, FinishedCall
from integrations.worker.targets import Targets
from integrations.worker.throttle import Breaker, Throttle
from rooms import faults

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ACCEPT = Answer(status=200, body=b'{"action": "accept"}')
Behaviour = Callable[[IntegrationRule, Sequence[ClaimedDelivery]], Awaitable[Answer]]


class FakeTargets(Targets):
    """Answers as the test says, and keeps who was called for what."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.calls: list[tuple[int, list[str]]] = []
        self._behaviour = behaviour

    async def call(self, rule: IntegrationRule, deliveries: Sequence[ClaimedDelivery], **options: Any) -> Answer:
        self.calls.append((rule.pk, [one.payload for one in deliveries]))
        return await self._behaviour(rule, deliveries)


class World:
    """A caller with its rules, and what it brought."""

    def __init__(self, behaviour: Behaviour, *rules: IntegrationRule) -> None:
        self.done: list[FinishedCall] = []
        self.back: list[Claim] = []
        self.recovered: list[int] = []
        self.free_after_calls: list[int] = []
        self.workers = 1
        self.targets = FakeTargets(behaviour)
        self.bulkhead = Bulkhead()
        self.bulkhead.learn({rule.pk: rule for rule in rules})
        self.caller = Caller(
            targets=self.targets,
            bulkhead=self.bulkhead,
            traffic=Traffic(),
            done=self.done.append,
            back=self.back.append,
            recovered=self.recovered.append,
            freed=lambda: self.free_after_calls.append(self.bulkhead.free),
            find_app_id=find_app_id,
            count_workers=lambda: self.workers,
        )

    @property
    def fates(self) -> list[str]:
        return [one.fate.value for done in self.done for one in done.report.conclusions]

    async def settle(self) -> None:
        """Let all that can go on without an answer go on."""
        for _ in range(20):
            await asyncio.sleep(0)


async def find_app_id() -> str:
    return "app"


def rule(pk: int = 1, **fields: Any) -> IntegrationRule:
    return IntegrationRule(pk=pk, **({"name": f"rule {pk}", "when": "before", "changed_at": NOW} | fields))


def ask(number: int, text: str = "raid", *, rule_id: int = 1, **fields: Any) -> ClaimedDelivery:
    now = datetime.now(UTC)
    payload = f'{{"id":"m{number}","data":"{text}"}}'
    values: dict[str, Any] = {"deadline": now + timedelta(seconds=60)} | fields
    return ClaimedDelivery(
        id=number, rule_id=rule_id, room_id=1, message_id=number, event="channel.message", serial=0,
        webhook_id=f"msg_{number}", payload=payload, attempt=1, tries=1, created_at=now, room="lobby", epoch="e",
        **values,
    )  # fmt: skip


async def accept(rule: IntegrationRule, deliveries: Sequence[ClaimedDelivery]) -> Answer:
    return ACCEPT


def failing(error: str = "No answer.") -> Behaviour:
    async def fail(rule: IntegrationRule, deliveries: Sequence[ClaimedDelivery]) -> Answer:
        raise CallFailed(error)

    return fail


async def test_a_raid_is_three_calls_however_many_say_the_same() -> None:
    gate = asyncio.Event()

    async def slow(rule: IntegrationRule, deliveries: Sequence[ClaimedDelivery]) -> Answer:
        await gate.wait()
        return ACCEPT

    asked_rule = rule()
    world = World(slow, asked_rule)
    for number in range(300):
        world.caller.begin(Claim(rule=asked_rule, deliveries=[ask(number)]))
    await world.settle()
    assert len(world.targets.calls) == 3
    gate.set()
    await world.settle()
    for number in range(300, 600):
        world.caller.begin(Claim(rule=asked_rule, deliveries=[ask(number)]))

    assert len(world.targets.calls) == 3
    assert world.fates == ["delivered"] * 600
    assert sum(done.report.is_shared for done in world.done) == 597
    assert all(one.verdict is not None for done in world.done for one in done.report.conclusions)


@pytest.mark.parametrize("error", [None, CallFailed("No answer."), ValueError("a bug")])
async def test_a_call_is_counted_no_more_when_the_worker_hears_that_another_may_begin(
    error: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "record", lambda place: None)

    async def answer(rule: IntegrationRule, deliveries: Sequence[ClaimedDelivery]) -> Answer:
        if error is not None:
            raise error
        return ACCEPT

    asked_rule = rule()
    world = World(answer, asked_rule)
    idle = world.bulkhead.free
    world.caller.begin(Claim(rule=asked_rule, deliveries=[ask(1)]))
    await world.settle()

    assert world.free_after_calls == [idle]


@pytest.mark.parametrize(("workers", "calls"), [(2, 2), (3, 1), (10, 1)])
async def test_workers_share_the_first_calls_about_a_text(workers: int, calls: int) -> None:
    asked_rule = rule()
    world = World(accept, asked_rule)
    world.workers = workers
    for number in range(10):
        world.caller.begin(Claim(rule=asked_rule, deliveries=[ask(number)]))
    await world.settle()

    assert len(world.targets.calls) == calls


async def test_in_a_batch_too_the_same_text_is_asked_about_three_times() -> None:
    batched = rule(batched=True)

    async def judge(rule: IntegrationRule, deliveries: Sequence[ClaimedDelivery]) -> Answer:
        verdicts = ",".join(f'{{"id":"m{one.id}","action":"reject","reason":"no"}}' for one in deliveries)
        return Answer(status=200, body=f'{{"verdicts":[{verdicts}]}}'.encode())

    world = World(judge, batched)
    world.caller.begin(
        Claim(rule=batched, deliveries=[ask(number, "a" if number % 2 else "b") for number in range(20)])
    )
    await world.settle()

    assert [len(payloads) for _, payloads in world.targets.calls] == [6]
    assert len(world.fates) == 20


async def test_a_failure_is_never_shared_and_those_who_waited_are_asked_about_one_at_a_time() -> None:
    gates = [asyncio.Event() for _ in range(4)]

    async def fail(rule: IntegrationRule, deliveries: Sequence[ClaimedDelivery]) -> Answer:
        await gates[min(deliveries[0].id, 3)].wait()
        raise CallFailed("No answer.")

    asked_rule = rule()
    world = World(fail, asked_rule)
    for number in range(10):
        world.caller.begin(Claim(rule=asked_rule, deliveries=[ask(number)]))
    for gate in gates[:3]:
        gate.set()
    await world.settle()

    assert len(world.targets.calls) == 4
    assert world.fates == ["retry"] * 3
    await world.caller.finish(0.01)
    assert len(world.back) == 7


@pytest.mark.parametrize("fields", [{"cache_seconds": 0.0}, {"when": "after"}])
async def test_a_rule_that_shares_nothing_is_asked_about_each(fields: dict[str, Any]) -> None:
    asked_rule = rule(**fields)
    deadline = {} if asked_rule.when == "before" else {"deadline": None}
    world = World(accept, asked_rule)
    for number in range(10):
        world.caller.begin(Claim(rule=asked_rule, deliveries=[ask(number, **deadline)]))
        await world.settle()

    assert len(world.targets.calls) == 10


async def test_a_shadow_keeps_its_verdict_and_decides_nothing() -> None:
    shadow = rule(2, shadow_of_id=1)
    world = World(accept, shadow)
    world.caller.begin(Claim(rule=shadow, deliveries=[ask(1, rule_id=2, deadline=None)]))
    await world.settle()
    (one,) = world.done[0].report.conclusions

    assert one.verdict is None
    assert '"publish"' in one.answer


def shut(bulkhead: Bulkhead, rule_id: int) -> Throttle:
    """Open the breaker of a rule."""
    throttle = dict(bulkhead.throttles)[rule_id]
    throttle.breaker, throttle.probe_at = Breaker.OPEN, 1e12
    return throttle


async def test_while_a_target_is_down_its_claims_are_given_back_and_a_probe_brings_them_again() -> None:
    down = rule()
    world = World(accept, down)
    throttle = shut(world.bulkhead, 1)
    world.caller.begin(Claim(rule=down, deliveries=[ask(1)]))
    assert [claim.deliveries[0].id for claim in world.back] == [1]
    assert world.targets.calls == []

    throttle.probe_at = 0.0
    world.caller.begin(Claim(rule=down, deliveries=[ask(2)]))
    await world.settle()
    assert world.recovered == [1]
    assert throttle.breaker is Breaker.CLOSED


async def test_a_stand_in_is_called_while_the_target_is_down_and_no_longer() -> None:
    main, stand_in = rule(), rule(2, shadow_of_id=1, stands_in=True)
    world = World(accept, main, stand_in)
    throttle = shut(world.bulkhead, 1)
    assert {
        capacity.rule_id: capacity.calls for capacity in world.bulkhead.capacities(0.0, lanes=False, every=True)[0]
    }[1] > 1
    world.caller.begin(Claim(rule=main, deliveries=[ask(1)]))
    await world.settle()
    throttle.breaker = Breaker.CLOSED
    world.caller.begin(Claim(rule=main, deliveries=[ask(2, "other")]))
    await world.settle()

    assert [called for called, _ in world.targets.calls] == [2, 1]
    assert [done.report.by_stand_in for done in world.done] == [True, False]
    assert world.done[0].report.conclusions[0].verdict is not None
    assert world.done[0].report.conclusions[0].delivery.rule_id == 1


async def test_what_the_target_did_not_answer_goes_to_the_stand_in_in_time_though_the_breaker_is_closed() -> None:
    asked: list[tuple[int, float]] = []

    async def behave(rule: IntegrationRule, deliveries: Sequence[ClaimedDelivery]) -> Answer:
        if rule.pk == 1:
            return Answer(status=503, body=b"", retry_after="600")
        return Answer(status=404, body=b"")

    class Timed(FakeTargets):
        async def call(self, rule: IntegrationRule, deliveries: Sequence[ClaimedDelivery], **options: Any) -> Answer:
            asked.append((rule.pk, round(options["timeout"])))
            return await super().call(rule, deliveries, **options)

    main, stand_in = rule(timeout_seconds=30, late="apply"), rule(2, shadow_of_id=1, stands_in=True)
    world = World(behave, main, stand_in)
    world.caller.targets = Timed(behave)
    deadline = datetime.now(UTC) + timedelta(seconds=8)
    world.caller.begin(Claim(rule=main, deliveries=[ask(1, deadline=deadline)]))
    await world.settle()
    for last_status, tries in ((503, 2), (None, 2), (200, 2), (503, 3)):
        again = replace(ask(1, deadline=deadline), tries=tries, attempt=tries, last_status=last_status)
        dict(world.bulkhead.throttles)[1].held_until = 0.0
        world.caller.begin(Claim(rule=main, deliveries=[again]))
        await world.settle()

    # Half of the time is left for the stand-in, whose refusal is not the rule's; what the target asked for, it did not.
    assert asked == [(1, 4), (2, 5), (2, 5), (1, 4), (1, 4)]
    assert world.fates == [Fate.RETRY.value] * 5
    assert all(one.due_at < deadline for done in world.done for one in done.report.conclusions)


async def test_a_target_that_is_stood_in_for_is_probed_seldom() -> None:
    main, stand_in = rule(), rule(2, shadow_of_id=1, stands_in=True)
    world = World(accept, main)
    alone = dict(world.bulkhead.throttles)[1]
    assert alone.longest_pause < BREAKER_PROBE_SECONDS
    world.bulkhead.learn({1: main, 2: stand_in})

    assert dict(world.bulkhead.throttles)[1] is alone
    assert alone.longest_pause == BREAKER_PROBE_SECONDS


async def test_a_target_that_asks_to_be_left_alone_is_stood_in_for() -> None:
    main, stand_in = rule(), rule(2, shadow_of_id=1, stands_in=True)
    world = World(accept, main, stand_in)
    dict(world.bulkhead.throttles)[1].held_until = 1e12
    assert 1 in {capacity.rule_id for capacity in world.bulkhead.capacities(0.0, lanes=False, every=True)[0]}
    world.caller.begin(Claim(rule=main, deliveries=[ask(1)]))
    await world.settle()

    assert [called for called, _ in world.targets.calls] == [2]


async def test_one_rule_that_hangs_leaves_the_others_their_share() -> None:
    rules = [rule(pk, cache_seconds=0.0) for pk in range(1, 6)]

    async def hang(rule: IntegrationRule, deliveries: Sequence[ClaimedDelivery]) -> Answer:
        await asyncio.sleep(3600)
        return ACCEPT

    world = World(hang, *rules)
    begun = 0
    for hanging in rules[:4]:
        for capacity in world.bulkhead.capacities(0.0, lanes=False, every=True)[0]:
            for _ in range(capacity.calls if capacity.rule_id == hanging.pk else 0):
                begun += 1
                world.caller.begin(Claim(rule=hanging, deliveries=[ask(begun, rule_id=hanging.pk)]))
    capacities = {
        capacity.rule_id: capacity.calls for capacity in world.bulkhead.capacities(0.0, lanes=False, every=True)[0]
    }

    assert world.bulkhead.under_way < 64
    assert capacities.get(5, 0) >= 1
    await world.caller.finish(0.0)


async def test_an_unexpected_error_frees_its_place_and_brings_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def break_down(rule: IntegrationRule, deliveries: Sequence[ClaimedDelivery]) -> Answer:
        raise RuntimeError("a bug")

    asked_rule = rule()
    world = World(break_down, asked_rule)
    world.caller.begin(Claim(rule=asked_rule, deliveries=[ask(1)]))
    await world.settle()

    assert (world.bulkhead.under_way, world.done) == (0, [])
    assert faults.counts()["calling a target"] >= 1 and "RuntimeError: a bug" in caplog.text


async def test_what_cannot_be_read_ends_no_worker(caplog: pytest.LogCaptureFixture) -> None:
    asked_rule = rule()
    world = World(accept, asked_rule)
    world.caller.begin(Claim(rule=asked_rule, deliveries=[replace(ask(1), payload="{")]))
    world.caller.begin(Claim(rule=asked_rule, deliveries=[ask(2)]))
    await world.settle()

    assert world.fates == ["delivered"]
    assert faults.counts()["beginning a call"] >= 1 and "Traceback (most recent call last)" in caplog.text


async def test_a_rule_that_was_changed_begins_anew() -> None:
    world = World(failing(), rule())
    shut(world.bulkhead, 1)
    world.bulkhead.learn({1: rule(changed_at=NOW + timedelta(seconds=1))})

    assert dict(world.bulkhead.throttles)[1].breaker is Breaker.CLOSED


async def test_five_failures_open_the_breaker_and_every_fate_is_told() -> None:
    asked_rule = rule(cache_seconds=0.0)
    world = World(failing(), asked_rule)
    for number in range(10):
        world.caller.begin(Claim(rule=asked_rule, deliveries=[ask(number, str(number))]))
        await world.settle()

    assert len(world.targets.calls) == 5
    assert world.fates == [Fate.RETRY.value] * 5
    assert len(world.back) == 5


def test_what_is_kept_of_an_answer_repeats_no_token_of_the_call() -> None:
    token = callback_tokens.issue(callback_tokens.CallbackClaims(id="msg_1", message=1, rule=1, expires=1), b"key")
    echo = json.dumps({"you sent": json.dumps({"callback": {"token": token}}), "x-callback-token": token})

    kept = kept_of(Answer(status=200, body=echo.encode()))

    assert token.partition(".")[2] not in kept
    assert kept.count(callback_tokens.HIDDEN) == 2
